"""The pages agree with each other, with the code and with themselves."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

from docs.markdown import ROOT, anchors, blocks, pages, prose

_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_TARGET_FILE = re.compile(r"(?:#|--) file: (\S+)\n")
IDS = [page.relative_to(ROOT).as_posix() for page in pages()]


@pytest.mark.parametrize("page", pages(), ids=IDS)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for match in _LINK.finditer(prose(text)):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{link}: there is no such heading"


@pytest.mark.parametrize("page", pages(), ids=IDS)
def test_no_page_puts_anything_off_and_every_block_is_closed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"\b(TODO|TBD|FIXME|XXX)\b", text)
    assert len(re.findall("^```", text, re.MULTILINE)) == 2 * len(list(blocks(text)))


def test_the_readme_links_every_page_of_the_documentation() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name})" not in readme] == []


def test_the_layers_on_the_page_are_those_that_lint_enforces() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    enforced = [[part.strip().removeprefix("smoll.") for part in line.split("|")] for line in contracts[0]["layers"]]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Layers")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [re.findall(r"`(\w+)`", row) for row in rows] == enforced


def test_the_examples_of_the_python_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "python.md"
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF)
    ran = 0
    for block in blocks(page.read_text(encoding="utf-8")):
        if file := _TARGET_FILE.match(block.text):
            path = tmp_path / file[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text[file.end() :], encoding="utf-8")
        elif block.language == "pycon":
            test = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line - 1)
            ran += runner.run(test, clear_globs=False).attempted
            names.update(test.globs)
    assert ran > 0
    assert runner.summarize(verbose=False).failed == 0


def test_the_picture_is_what_its_script_draws(tmp_path: Path) -> None:
    images = ROOT / "docs" / "images"
    subprocess.run([sys.executable, images / "flow.py", tmp_path], check=True)
    for drawn in sorted(tmp_path.iterdir()):
        assert (images / drawn.name).read_bytes() == drawn.read_bytes()
