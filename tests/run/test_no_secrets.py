"""A password in `.env` is in no file under `.smoll` and in no output, whether the run works or fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

import smoll
from support import MakeProject, Postgres, write

PASSWORD = "p'a\"ss\\wörd!§ %41"
CONFIG = """\
sources:
  shop: {kind: sql, url: "${SHOP_URL}", streams: {"*": {}}}
"""
MODELS = {"orders": "select id from {{ source('shop', 'orders') }}"}
FORMS = [PASSWORD, repr(PASSWORD)[1:-1], PASSWORD.replace("\\", "\\\\").replace("'", "\\'"), quote(PASSWORD, safe="")]


def _smoll(root: Path, *words: str) -> str:
    command = [sys.executable, "-m", "smoll", "--project", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    return done.stdout + done.stderr


def _leaks(root: Path, output: str) -> list[str]:
    """Where the password is found, in any way in which it is written."""
    forms = [form.encode() for form in FORMS]
    files = [path for path in (root / ".smoll").rglob("*") if path.is_file()]
    assert any(path.name == "ledger.sqlite" for path in files)
    found = [str(path.relative_to(root)) for path in files if any(form in path.read_bytes() for form in forms)]
    return found + ["the output" for form in FORMS if form in output]


@pytest.fixture
def shop(make_project: MakeProject, postgres: Postgres) -> tuple[smoll.Project, str]:
    """A project on a Postgres whose user has PASSWORD; the second value is the URL with {} for the password."""
    literal = PASSWORD.replace("'", "''")
    role = f"role_{postgres.database}"
    postgres.execute(f"create role {role} superuser login password E'{literal.replace(chr(92), chr(92) * 2)}'")
    postgres.execute("create table orders (id bigint primary key); insert into orders values (1)")
    url = postgres.url.replace("postgres:@", f"{role}:{{}}@").replace("postgres@", f"{role}:{{}}@")
    assert "{}" in url, postgres.url
    project_url = url.format(quote(PASSWORD, safe=""))
    return make_project(CONFIG, {".env": f"SHOP_URL={project_url}\n"}, MODELS), url


def test_a_run_that_works_keeps_the_password_to_itself(shop: tuple[smoll.Project, str]) -> None:
    root = shop[0].config.root
    output = _smoll(root, "run") + _smoll(root, "check") + _smoll(root, "runs", "show", "1", "--json")
    assert "released 1" in output
    output += _smoll(root, "release", "show", "1", "--json") + _smoll(root, "status")
    assert _leaks(root, output) == []


@pytest.mark.parametrize("trouble", ["no such host", "no such database", "no such table"])
def test_a_run_that_fails_keeps_the_password_to_itself(shop: tuple[smoll.Project, str], trouble: str) -> None:
    project, url = shop
    root = project.config.root
    url = url.format(quote(PASSWORD, safe=""))
    if trouble == "no such host":
        url = f"postgresql://me:{quote(PASSWORD, safe='')}@no-such-host.invalid:5432/shop"
    elif trouble == "no such database":
        url = url.replace("/test_", "/no_such_")
    else:
        config = CONFIG.replace('"*": {}', "orders: {}, missing: {}")
        write(root, {"smoll.yml": f"name: tests\n{config}"})
    write(root, {".env": f"SHOP_URL={url}\n"})
    output = _smoll(root, "run") + _smoll(root, "run", "--json") + _smoll(root, "runs", "show", "1")
    assert "shop" in output
    assert "failed" in output
    output += _smoll(root, "check")
    assert _leaks(root, output) == []


def test_events_carry_no_password_either(shop: tuple[smoll.Project, str]) -> None:
    root = shop[0].config.root
    url = f"postgresql://me:{quote(PASSWORD, safe='')}@no-such-host.invalid:5432/shop"
    config = CONFIG.replace('"*": {}', "orders: {}")
    write(root, {".env": f"SHOP_URL={url}\n", "smoll.yml": f"name: tests\n{config}"})
    events: list[str] = []
    result = smoll.open_project(root).run(on_event=lambda event: events.append(str(event)))
    assert result.status == "failed"
    assert _leaks(root, "\n".join([*events, str(result)])) == []


def test_one_projects_env_file_does_not_reach_the_next_project_of_the_process(make_project: MakeProject) -> None:
    models = {"m": "select '{{ env_var('WHO_AM_I') }}' as who"}
    for who in ("first", "second"):
        project = make_project("", {".env": f"WHO_AM_I={who}\n"}, models)
        assert project.run().status == "ok"
        with project.connect() as connection:
            assert connection.execute("select who from main.m").fetchall() == [(who,)]
    unset = make_project("", {}, models)
    assert "WHO_AM_I" in unset.run().error
