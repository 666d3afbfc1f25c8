from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from smoll.cli import failure
from smoll.cli.context import Invocation
from smoll.errors import ConfigError, Interrupted, LockedError, Problem, SmollError, UsageError


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as same:
        return same


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SmollError("It broke."), 1),
        (LockedError("Another run holds it."), 1),
        (UsageError("No project."), 2),
        (ConfigError([Problem("smoll.yml", 1, 1, "wrong")]), 2),
        (Interrupted("Stopped."), 130),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    # A full disk abandons stdout for good, so that one runs in its own process below.
    if isinstance(error, OSError):
        assert failure._explain(error, Invocation())[2] == code
        return
    assert failure.report(error, Invocation(), as_json=False) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(("Error: ", "Interrupted"))
    assert failure.report(error, Invocation(), as_json=True) == code
    assert json.loads(capfd.readouterr().out)["error"]["exit_code"] == code


def test_hint_follows_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    failure.report(UsageError("No project here.", hint="`smoll init` makes one."), Invocation(), as_json=False)
    assert capsys.readouterr().err == "Error: No project here.\n  `smoll init` makes one.\n"


def test_a_bug_is_one_line_and_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "smoll.yml").touch()
    error = caught(KeyError("the cause"))
    assert failure.report(error, Invocation(path=tmp_path), as_json=False) == 3
    (log,) = (tmp_path / ".smoll" / "logs").iterdir()
    message = capsys.readouterr().err
    assert str(log) in message
    assert "Traceback" not in message
    assert "Traceback" in log.read_text()
    assert "the cause" in log.read_text()


def test_the_log_finds_another_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".smoll").write_text("a file where the folder should be")
    path = failure.write_log("Traceback", tmp_path)
    assert tmp_path not in path.parents
    assert "Traceback" in path.read_text()
    path.unlink()
    path = failure.write_log("Traceback", None)
    assert path.is_file()
    path.unlink()


def test_a_secret_gets_into_neither_line_nor_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "smoll.yml").touch()
    config = SimpleNamespace(redact=lambda text: text.replace("hunter22", "***"))
    invocation = Invocation(path=tmp_path, project=SimpleNamespace(config=config))  # type: ignore[arg-type]
    failure.report(caught(RuntimeError("postgres://me:hunter22@db")), invocation, as_json=False)
    (log,) = (tmp_path / ".smoll" / "logs").iterdir()
    assert "hunter22" not in capsys.readouterr().err + log.read_text()


ENDLESS = """
import sys, duckdb
import smoll.cli
from smoll.cli import results
class Command:
    def make_context(self, *args, **options):
        import contextlib
        return contextlib.nullcontext()
    def invoke(self, context):
        results.answer(duckdb.connect(), "FROM range(100_000_000_000)", "csv")
smoll.cli.group = Command()
sys.exit(smoll.cli.main([]))
"""


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "range\n"
    process.stdout.close()
    assert process.wait(timeout=30) == failure.BROKEN_PIPE
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a full device to test with")
def test_a_full_disk_under_stdout() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", ENDLESS], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Error: The disk is full: cannot write the output."
    assert "Traceback" not in done.stderr
