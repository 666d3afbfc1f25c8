"""The webserver gives its memory back when nobody calls, and nobody notices but by a few seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from smoll.up.health import is_serving, query
from smoll.up.instance import write_instance, write_workspace
from up.running import wait_until


def test_the_webserver_sleeps_until_somebody_calls(tmp_path: Path) -> None:
    write_instance(tmp_path, 90, in_postgres=False)
    workspace = write_workspace(tmp_path, "tests", tmp_path / "nobody.sock")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-P", "-m", "smoll.up.webserver", str(workspace)]
        with subprocess.Popen(
            [*command, "--socket", str(listener.fileno()), "--sleep-after", "2"],
            env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
            pass_fds=[listener.fileno()],
        ) as server:
            try:
                process = psutil.Process(server.pid)
                wait_until(lambda: is_serving(port))
                awake = process.memory_info().rss
                wait_until(lambda: "--asleep" in process.cmdline() and process.num_threads() == 1)
                assert process.memory_info().rss < awake / 4
                wait_until(lambda: query(port, "{ version }")["version"])
                assert process.pid == server.pid and process.memory_info().rss > awake / 2
                wait_until(lambda: process.memory_info().rss < awake / 4)
                server.terminate()
                assert server.wait(20) == 0
            finally:
                server.kill()
