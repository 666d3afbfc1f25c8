"""`smoll up` with everything well, and with one process after the other killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from smoll.up.health import is_beating, query
from up.running import DEFINITIONS, Up, gone, running, wait_until, write_project

SECRET = "the-word-in-dotenv"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    root = write_project(folder / 'it\'s a "project"')
    (root / ".env").write_text(f"MY_TOKEN={SECRET}\n")
    (folder / "home").mkdir()
    with running(root, environment={"HOME": str(folder / "home")}) as up:
        yield up


def test_it_says_when_all_is_up_and_where(up: Up) -> None:
    assert set(up.ready["pids"]) == {"front", "app server", "code server", "webserver", "daemon"}
    assert up.ready["problem"] == []
    assert next(event["name"] for event in up.seen if event["event"] == "started") == "front"
    with urlopen(up.ready["urls"]["dagster"], timeout=10) as answer:
        assert b"<title" in answer.read()
        assert answer.headers["X-Frame-Options"] == "DENY"
    with urlopen(f"{up.ready['url']}/favicon-run-success.svg", timeout=10) as icon:
        assert icon.url == f"{up.ready['urls']['dagster']}favicon-run-success.svg" and b"<svg" in icon.read()
    assert up.jobs() >= {"quick", "slow"}
    assert is_beating(up.port, time.time() - 60)


def test_it_listens_on_loopback_only_and_its_sockets_are_private(up: Up) -> None:
    inet = [each for process in up.processes() for each in process.net_connections("inet") if each.status == "LISTEN"]
    assert {(each.laddr.ip, each.laddr.port) for each in inet} == {("127.0.0.1", up.port)}
    listening = [each.laddr for process in up.processes() for each in process.net_connections("unix") if each.laddr]
    folders = {Path(path).parent for path in listening if isinstance(path, str) and path.startswith("/")}
    assert len(folders) == 1
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in folders)


def test_a_run_begins_soon_and_succeeds(up: Up) -> None:
    launched = time.monotonic()
    run = up.launch("quick")
    wait_until(lambda: up.status(run) == "SUCCESS")
    assert time.monotonic() - launched < 20


def test_a_second_run_of_a_pool_waits(up: Up) -> None:
    first = up.launch("slow")
    wait_until(lambda: up.status(first) == "STARTED")
    second = up.launch("slow")
    time.sleep(3)
    assert (up.status(first), up.status(second)) == ("STARTED", "QUEUED")
    for run in (first, second):
        query(up.port, "mutation($run: String!) { terminateRun(runId: $run) { __typename } }", {"run": run})
    wait_until(lambda: {up.status(first), up.status(second)} == {"CANCELED"})


def test_the_button_reloads_the_definitions(up: Up) -> None:
    reload = 'mutation { reloadRepositoryLocation(repositoryLocationName: "tests") { __typename } }'
    (up.root / "definitions.py").write_text(DEFINITIONS.replace("def quick()", "def swift()").replace("quick", "swift"))
    query(up.port, reload)
    wait_until(lambda: "swift" in up.jobs())
    (up.root / "definitions.py").write_text(DEFINITIONS)
    query(up.port, reload)
    wait_until(lambda: "quick" in up.jobs())


def test_a_second_one_is_refused_and_told_who_is_there(up: Up) -> None:
    done = _smoll(up.root, "up")
    assert done.returncode == 1
    assert f"pid {up.process.pid}" in done.stderr and up.ready["url"] in done.stderr


def test_a_port_that_was_asked_for_and_is_taken_is_refused(up: Up, tmp_path: Path) -> None:
    other = write_project(tmp_path / "other")
    done = _smoll(other, "up", "--port", str(up.port), "--json")
    assert done.returncode == 2
    assert "taken" in json.loads(done.stdout)["error"]["message"]
    assert not (other / ".smoll" / "dagster" / "run").exists()


def test_the_next_port_is_taken_when_the_usual_one_is_not_free(up: Up, tmp_path: Path) -> None:
    other = write_project(tmp_path / "other", more=f"dagster: {{port: {up.port}}}\n")
    with running(other, wait=False) as second:
        wait_until(lambda: second.said)
        assert second.said[0].startswith(f"Port {up.port} is taken by another program; this is port ")


def test_without_what_was_asked_for_it_says_what_to_install(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    hiding = "import sys; sys.modules['dagster'] = None; from smoll.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", hiding, "--project", str(root), "up", "--only", "dagster"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "pip install 'smoll[dagster]'" in done.stderr


def test_its_own_webserver_is_guarded(up: Up) -> None:
    for path, headers in (
        ("/dagster/graphql?query=mutation{setNuxSeen}", {}),
        ("/", {"Host": "evil.example"}),
        ("/dagster/graphql?query={version}", {"Origin": "https://evil.example"}),
    ):
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(up.ready["url"] + path, headers=headers), timeout=10)
        assert refused.value.code in (403, 405)


def test_websockets_of_dagster_pass_for_its_own_page(up: Up) -> None:
    stream, protocols = f"ws://127.0.0.1:{up.port}/dagster/graphql", [Subprotocol("graphql-ws")]
    with connect(stream, origin=Origin(up.ready["url"]), subprotocols=protocols) as opened:
        opened.send(json.dumps({"type": "connection_init"}))
        assert json.loads(opened.recv(timeout=10))["type"] == "connection_ack"
    with pytest.raises(InvalidStatus):
        connect(stream, origin=Origin("https://evil.example"), subprotocols=protocols)


@pytest.mark.parametrize(
    ("victim", "words"),
    [
        ("front", ("smoll.up.front",)),
        ("app server", ("smoll.up.apps",)),
        ("daemon", ("dagster._daemon",)),
        ("webserver", ("smoll.up.webserver",)),
        ("code server", ("dagster api grpc",)),
    ],
    ids=["front", "app server", "daemon", "webserver", "definitions"],
)
def test_what_is_killed_comes_back_and_works(up: Up, victim: str, words: tuple[str, ...]) -> None:
    killed = time.time()
    os.kill(up.find(*words).pid, signal.SIGKILL)
    ended = up.wait_for("ended", victim)
    assert "exit code 1" in ended["how"] or "SIGKILL" in ended["how"]
    assert up.wait_for("started", victim)["pid"] == up.find(*_program(victim)).pid
    with urlopen(up.ready["urls"]["apps"], timeout=60) as answer:
        assert b"<title>Streamlit" in answer.read()
    if victim == "daemon":
        assert is_beating(up.port, killed)
    wait_until(lambda: "quick" in up.jobs())


def test_what_a_killed_code_server_ran_has_failed_and_the_next_run_begins(up: Up) -> None:
    run = up.launch("slow")
    wait_until(lambda: up.status(run) == "STARTED")
    worker = up.find("spawn_main")
    next_run = up.launch("slow")
    os.kill(up.find("smoll.up.code_server").pid, signal.SIGKILL)
    up.wait_for("ended", "code server")
    wait_until(lambda: gone([worker]), 10)
    up.wait_for("started", "code server")
    wait_until(lambda: up.status(run) == "FAILURE")
    wait_until(lambda: up.status(next_run) == "STARTED")
    os.kill(up.find("spawn_main").pid, signal.SIGKILL)
    wait_until(lambda: up.status(next_run) == "FAILURE")


def test_nothing_is_written_outside_the_project(up: Up) -> None:
    home = up.root.parent / "home"
    assert [path.name for path in home.rglob("*")] == []
    assert {path.name for path in up.root.iterdir()} <= {".smoll", ".env", "smoll.yml", "definitions.py", "__pycache__"}
    logs = {path.name for path in (up.root / ".smoll" / "logs").iterdir()}
    assert {
        "up-code-server.log",
        "up-webserver.log",
        "up-daemon.log",
        "up-housekeeping.log",
        "up-front.log",
        "up-app-server.log",
    } >= logs
    assert "a word from the run" not in "".join(up.said)


def test_no_secret_is_in_a_file_or_a_command(up: Up) -> None:
    for path in (up.root / ".smoll").rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert not up.says(SECRET)


def _program(name: str) -> tuple[str, ...]:
    words = {"daemon": "dagster._daemon", "webserver": "smoll.up.webserver", "code server": "smoll.up.code_server"}
    words |= {"front": "smoll.up.front", "app server": "smoll.up.apps"}
    return (words[name],)


def _smoll(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smoll", "--project", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
