"""A secret never gets out: not by an error, not by a repr, not past `redact`."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from project.helpers import load, problems

PASSWORD = "p@ss:'w\"örd/%"
SHOP = "name: x\nsources: {shop: {kind: sql, url: '%s', streams: [a]}}\n"


def test_every_form_of_a_password(tmp_path: Path) -> None:
    url = f"postgresql://me:{quote(PASSWORD, safe='')}@host/db"
    config = load(tmp_path, SHOP % "${SHOP_URL}", environ={"SHOP_URL": url})
    forms = (url, PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), json.dumps(PASSWORD), repr(PASSWORD))
    for form in (*forms, PASSWORD.replace("'", "''")):
        hidden = config.redact(f"before {form} after")
        assert "***" in hidden and "örd" not in hidden and "w" not in hidden.replace("ow", "")
    assert PASSWORD not in repr(config) + str(config) and url not in repr(config)


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("postgres://u:hunter22@h/d", ["hunter22", "postgres://u:hunter22@h/d"]),
        ("postgres://u:hun@ter22@h/d", ["hun@ter22"]),
        ("postgres://h/d?user=u&password=hunter22", ["hunter22"]),
        ("postgres://u:${PART}@${HOST_NAME}/d", ["hunter22", "secret-host"]),
        ("postgres://u:${PART:-x}@h/d", ["hunter22"]),
        ("postgres://u:${NONE:-fallback}@h/d", ["fallback"]),
    ],
)
def test_urls(tmp_path: Path, url: str, secrets: list[str]) -> None:
    config = load(tmp_path, SHOP % url, environ={"PART": "hunter22", "HOST_NAME": "secret-host"})
    assert [config.redact(secret) for secret in secrets] == ["***"] * len(secrets)


def test_variables_by_name(tmp_path: Path) -> None:
    text = "name: x\ntransform: ${MY_token}${plain}${API_KEY:-otherkey}\n"
    environ = {"MY_token": "tokenvalue", "plain": "visible", "UNUSED_PASSWORD": "unusedvalue"}
    config = load(tmp_path, text, dotenv="DB_PWD=filevalue\nSHORT_PWD=abc\nCOLOR=green", environ=environ)
    assert config.redact("tokenvalue otherkey filevalue") == "*** *** ***"
    assert config.redact("visible unusedvalue green abc") == "visible unusedvalue green abc"


def test_longest_first(tmp_path: Path) -> None:
    config = load(tmp_path, "name: x", dotenv="A_KEY=abcd\nB_KEY=abcdefgh\n")
    assert config.redact("abcdefgh abcd") == "*** ***"


def test_nothing_to_hide(tmp_path: Path) -> None:
    assert load(tmp_path, "name: x").redact("as it is") == "as it is"


@pytest.mark.parametrize(
    "text",
    [
        "name: ${DB_PASSWORD}!",
        "name: x\nrelease: {keep: '${DB_PASSWORD}'}",
        "name: x\nsources: {a: '${DB_PASSWORD}'}",
        "name: x\nsources: {a: {kind: '${DB_PASSWORD}'}}",
        "name: x\nsources: {a: {kind: sql, url: '${DB_PASSWORD}://h/d', streams: [a]}}",
        "name: x\nsources: {a: 'postgres://u:hunter22@h/d'}",
        "name: x\nsources: 'postgres://u:${PART}@h/d'",
        "name: x\nhunter22: 'postgres://u:hunter22@h/d'",
        "name: 'postgres://u:hunter22@h/" + "d" * 500 + "'",
        "name: '/" + "d" * 265 + "${DB_PASSWORD}'",
        "name: *hunter22 # ${DB_PASSWORD}",
        "url: postgres://u:hunter22@h/d\nname: *hunter22",
        "url: {a: postgres://u:hunter22@h/d\nhunter22",
    ],
)
def test_errors_hide_secrets(tmp_path: Path, text: str) -> None:
    found = problems(tmp_path, text, environ={"DB_PASSWORD": "hunter22", "PART": "hunter22"})
    assert "hunter22" not in str(found) and "hunter" not in "".join(map(str, found))


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    config = load(tmp_path, "name: x\ntransform: ${MY_TOKEN}", environ={"MY_TOKEN": "abc\udcff\udcfe"})
    assert config.redact("abc\udcff\udcfe") == "***"


@pytest.mark.parametrize("password", ["two words", "2024?hunter2", "a/b", "a#b"])
def test_a_password_that_is_not_escaped_is_refused_and_hidden(tmp_path: Path, password: str) -> None:
    text = f'name: x\nsources: {{db: {{kind: sql, url: "postgresql://app:{password}@host/db", streams: ["*"]}}}}\n'
    (problem,) = problems(tmp_path, text)
    assert password not in str(problem)


def test_each_line_of_a_secret_is_hidden(tmp_path: Path) -> None:
    text = "name: x\nsources: {f: {kind: files, streams: {t: {path: 'a ${APP_KEY}.csv'}}}}\n"
    config = load(tmp_path, text, environ={"APP_KEY": "first line\nsecond line"})
    assert config.redact("it said: second line") == "it said: ***"
