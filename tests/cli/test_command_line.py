from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from smoll.cli import COMMANDS, main, reference
from smoll.cli.run import spread

Smoll = Callable[..., subprocess.CompletedProcess[str]]
DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
LEAVES = [(path, context) for path, context in reference.commands() if path != "smoll"]


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from smoll.cli import main
main(["--help"])
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.split(".")[0] for name in done.stderr.split()}
    assert imported.isdisjoint({"duckdb", "dbt", "dagster", "dlt", "pydantic", "rich", "ruamel", "pandas"})
    assert all(name in done.stdout for name in COMMANDS)


def test_reference_is_what_the_commands_say() -> None:
    command = "python -m smoll.cli.reference > docs/cli.md"
    assert DOCS.read_text(encoding="utf-8") == reference.render(), f"stale: {command}"


@pytest.mark.parametrize(("path", "context"), LEAVES, ids=[path for path, _ in LEAVES])
def test_every_command_is_documented_with_an_example(path: str, context: click.Context) -> None:
    command = context.command
    assert command.help
    assert path in (command.epilog or ""), "the example shows another command"
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or getattr(parameter, "help", None), parameter.name
    assert f"\n## {path}\n" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ["init", "run", "check", "runs", "runs show", "releases", "release show",
                                  "release resume", "rollback", "status", "doctor", "generate staging", "rejects",
                                  "state show", "state set", "state reset"])  # fmt: skip
def test_every_command_that_reports_takes_json(path: str) -> None:
    context = dict(reference.commands())[f"smoll {path}"]
    assert any("--json" in parameter.opts for parameter in context.command.params)


def test_version(smoll: Smoll) -> None:
    done = smoll("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("smoll ")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["rn"], "Did you mean 'run'?"),
        (["xyzzy"], "No such command 'xyzzy'"),
        (["run", "--ful-refresh"], "--full-refresh"),
        (["runs", "show", "zero"], "'zero' is not a valid integer"),
        (["rollback", "0"], "0 is not in the range"),
        (["sql", "--raw", "--release", "1", "select 1"], "give one of both"),
        (["sql", "-o", "rows", "select 1"], "Say --format"),
        (["sql", "--format", "table", "-o", "rows", "select 1"], "for the screen"),
        (["sql", "select 1", "-f", __file__], "Give one query"),
        (["sql", "-f", "no such file"], "No such file"),
        (["sql", "--format", "xml", "select 1"], "'xml' is not one of"),
    ],
)
def test_wrong_usage(args: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "--help" in err


def test_wrong_usage_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--json", "--nope"]) == 2
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["exit_code"] == 2
    assert "--nope" in error["message"]
    assert error["hint"] == "Try 'smoll run --help'."
    assert err == ""


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check", "runs", "releases", "status", "rollback", "rejects"])
def test_outside_a_project(command: str, smoll: Smoll) -> None:
    done = smoll(command)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "smoll.yml" in done.stderr
    assert "smoll init" in done.stderr
    error = json.loads(smoll(command, "--json").stdout)["error"]
    assert error["exit_code"] == 2


def test_init_in_a_script(smoll: Smoll, tmp_path: Path) -> None:
    done = smoll("init", "it's a folder")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "it's a folder" / "smoll.yml").is_file()
    assert """cd 'it'"'"'s a folder'""" in done.stdout
    again = smoll("init", "it's a folder", "--json")
    assert again.returncode == 2
    assert json.loads(again.stdout)["error"]["message"]


def test_init_reports_json(smoll: Smoll) -> None:
    done = smoll("init", "here", "--name", "nice", "--json")
    result = json.loads(done.stdout)
    assert result["template"] == "blank"
    assert "smoll.yml" in result["files"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ([], []),
        (["-s", "a", "b"], ["-s", "a", "-s", "b"]),
        (["--select", "a", "b", "--exclude", "c", "d", "--json"],
         ["--select", "a", "--select", "b", "--exclude", "c", "--exclude", "d", "--json"]),
        (["--select=a", "--no-wait"], ["--select=a", "--no-wait"]),
        (["--reload", "x", "y.z"], ["--reload", "x", "--reload", "y.z"]),
        (["--json", "stray"], ["--json", "stray"]),
        (["--select"], ["--select"]),
    ],
)  # fmt: skip
def test_lists_may_be_typed_as_in_dbt(typed: list[str], meant: list[str]) -> None:
    assert spread(typed) == meant
