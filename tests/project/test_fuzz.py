"""Whatever stands in the files: a config or a `ConfigError`, and never a secret in its text."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from project.helpers import write
from project.test_load import WHOLE
from smoll.errors import ConfigError
from smoll.project import load_config

SECRET = "zQ7#kW'9\"x@é"
ENVIRON = {"DB_PASS": SECRET, "MY_TOKEN": SECRET}
GOOD = WHOLE.replace("${PW}", "${DB_PASS}")
PIECES = st.sampled_from(
    ["name", "sources", "streams", "kind", "files", "sql", "url",
     "${DB_PASS}", "${MY_TOKEN}", "${", "$${", ":-}", ": ",
     "- ", "\n", "\n  ", "\t", "{", "}", "[", "]", "*", "&a", "*a", "!t", "'", '"', "#", "|", ">", "%", "---",
     "<<",
     "~", "mode", "key", "\0", "\ud7ff", "\u2028", "\ufeff", "\\u0000", '"\\ud800"',
     "postgres://u:p@h", "1", ","]
)  # fmt: skip
YAMLISH = st.lists(PIECES | st.text(max_size=4), max_size=40).map("".join)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(text: str | bytes, dotenv: str | bytes | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            config = load_config(write(Path(folder), text, dotenv), ENVIRON)
        except ConfigError as error:
            shown = str(error) + repr(error) + repr(error.problems)
            assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)
            assert str(error).isprintable() or "\n" in str(error)
        else:
            shown = config.redact(repr(config))
    assert SECRET not in shown and repr(SECRET)[1:-1] not in shown


@quick
@given(YAMLISH)
@example("name: ${DB_PASS}\nx: *")
def test_yamlish(text: str) -> None:
    check(text.encode("utf-8", "surrogatepass"))


@quick
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_bytes(text: bytes, dotenv: bytes) -> None:
    check(text, dotenv)


@quick
@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), PIECES), min_size=1, max_size=4))
def test_mutated(edits: list[tuple[int, int, str]]) -> None:
    text = GOOD
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    check(text.encode("utf-8", "surrogatepass"))


@quick
@given(st.integers(0, 30), st.lists(PIECES, max_size=6).map("".join))
def test_replaced_values(number: int, value: str) -> None:
    lines = GOOD.split("\n")
    line = lines[number % len(lines)]
    lines[number % len(lines)] = line.split(":")[0] + ": " + value
    check("\n".join(lines).encode("utf-8", "surrogatepass"))
