from __future__ import annotations

from pathlib import Path

import pytest

from docs.markdown import ROOT, section
from docs.shell import Shell, first_missing

README = ROOT / "README.md"
QUESTIONS = ROOT / "src" / "smoll" / "templates" / "flights" / "README.md"


def test_the_tour_of_the_readme_and_the_page_of_the_demo_do_what_they_say(tmp_path: Path) -> None:
    home, desk = tmp_path / "home", tmp_path / "it's a desk"
    home.mkdir()
    desk.mkdir()
    shell = Shell(desk, home)
    shell.read(section(README.read_text(encoding="utf-8"), "tour"))
    shell.read(QUESTIONS.read_text(encoding="utf-8"))  # goes on in the folder that the tour left
    assert list(home.iterdir()) == []  # nothing is written outside the project


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("a 1\nb\n", None),
        ("a 2\nb\n", "a 2"),
        ("a 1\n", "b"),
        ("b\n", "b"),
        ("...\nb\n", None),
        ("a 1\n...\n", None),
        ("a ...\nb\n", None),
        ("a 1\nb\nc\n", "c"),
    ],
)
def test_the_comparison_of_shown_and_real_output_sees_every_difference(shown: str, missing: str | None) -> None:
    assert first_missing(shown, "a   1\nb\n") == missing


def test_durations_in_shown_output_need_not_be_equal() -> None:
    assert first_missing("took 3.1 s\n", "took 12 s\n") is None
    assert first_missing("took 3 rows\n", "took 12 rows\n") == "took 3 rows"
