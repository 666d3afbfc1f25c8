from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def smoll(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``smoll`` as a script would: its own process, an empty folder, no terminal, nothing on stdin."""

    def run(*args: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "smoll", *args]
        return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    return run
