"""The commands of the page on backups do what it says."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest

import smoll
from docs.markdown import ROOT, blocks
from smoll.archive import PASSPHRASE
from smoll.cli import main
from support import write_project

YML = "name: shop\nsources: {till: {kind: files, streams: {sales: data/sales.csv}}}\n"
MODELS = {"takings": "{{ config(materialized='table') }} select * from {{ source('till', 'sales') }}"}


def test_the_commands_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "backup.md").read_text(encoding="utf-8")
    named = re.findall(r"/mnt/backups/(\S+\.smoll\.tar\.zst) ", page)
    write_project(tmp_path / "project", YML, {"data/sales.csv": "a\n1\n2\n"}, MODELS, {})
    (tmp_path / "mnt").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    assert main(["run"]) == 0
    assert main(["backup", f"{tmp_path}/mnt/"]) == 0
    (made,) = (tmp_path / "mnt").iterdir()
    form = "shop-%Y%m%dT%H%M%SZ.smoll.tar.zst"
    assert datetime.strptime(made.name, form) and datetime.strptime(named[0], form)
    made.rename(made.with_name(named[0]))

    monkeypatch.chdir(tmp_path)
    ran = 0
    capsys.readouterr()
    for block in blocks(page):
        for line in block.text.splitlines() if block.language == "sh" else ():
            words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line.partition("#")[0])]
            if "s3://" in line or words[:2] == ["smoll", "backup"]:
                continue  # there is another test for that
            if (words[0] == "smoll" and "/tmp/drill" in words) or words[:2] == ["smoll", "restore"]:
                places = {"/tmp/drill": f"{tmp_path}/drill", f"/mnt/backups/{named[0]}": f"{tmp_path}/mnt/{named[0]}"}
                assert main([places.get(word, word) for word in words[1:]]) == 0, line
                ran += 1
    assert ran == 4
    assert "2" in capsys.readouterr().out.splitlines()[-1]
    assert smoll.open_project(tmp_path / "shop").release().manifest.number == 1
    assert f"export {PASSPHRASE}=" in page


def test_what_the_page_says_of_secrets_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "backup.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"\| files that hold secrets.*\| (.*) \|", page)
    names = [name.replace("*", "x") for name in re.findall("`([^`]+)`", row) if not name.endswith("/")]
    assert len(names) == 9
    write_project(tmp_path / "project", "name: shop\n", dict.fromkeys([*names, ".env.example"], "A=b\n"), {}, {})
    project = smoll.open_project(tmp_path / "project")
    notes = project.backup(tmp_path / "plain.tar").notes
    assert sorted(note.split(" is not in it")[0] for note in notes) == sorted(names)
    monkeypatch.setenv(PASSPHRASE, "five words")
    assert project.backup(tmp_path / "whole.tar").notes == ()
