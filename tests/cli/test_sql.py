"""`smoll sql` as it is called: which release, which format, where to; and the shell on a real terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pexpect
import psutil  # type: ignore[import-untyped]
import pytest

import smoll
from run.shop import FILES, GOOD_ORDERS, MODELS, SOURCES
from support import write, write_project


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> smoll.Project:
    """Two releases: one of two orders and one of three."""
    root = tmp_path_factory.mktemp("sql") / "shop"
    root.mkdir()
    write_project(root, f"name: shop\nresources: {{memory: 500MB, threads: 2}}\n{SOURCES}", FILES, MODELS, {})
    project = smoll.open_project(root)
    assert project.run().release.number == 1
    write(root, {"data/orders.csv": GOOD_ORDERS})
    assert project.run().release.number == 2
    return project


def _sql(project: smoll.Project, *words: str, ask: str | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "smoll", "--project", str(project.config.root), "sql", *words]
    return subprocess.run(command, input=(ask or "").encode(), capture_output=True, timeout=60)


def test_a_release_is_asked_by_its_number(shop: smoll.Project, tmp_path: Path) -> None:
    count = ("--format", "csv", "select count(*) as n from orders")
    assert [_sql(shop, *where, *count).stdout for where in ([], ["--release", "1"], ["--release", "2"])] == [
        b"n\n3\n",
        b"n\n2\n",
        b"n\n3\n",
    ]
    root = Path(shutil.copytree(shop.config.root, tmp_path / "copy", symlinks=True))
    shutil.rmtree(root / ".smoll" / "releases" / "1")
    gone = _sql(smoll.open_project(root), "--release", "1", *count)
    assert (gone.returncode, gone.stdout) == (2, b"")
    assert gone.stderr == b"Error: There is no release 1.\n  `smoll releases` lists them.\n"


def test_a_query_comes_from_stdin_and_goes_into_a_file(shop: smoll.Project, tmp_path: Path) -> None:
    query = "select id, amount from orders order by id"
    for name, begins in (("rows.csv", b"id,amount\n1,10\n"), ("rows.JSON", b"[\n"), ("rows.parquet", b"PAR1")):
        file, link = tmp_path / name, tmp_path / f"link.{name}"
        file.write_bytes(b"before")
        link.symlink_to(file)
        done = _sql(shop, "-o", str(link), ask=query)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert file.read_bytes().startswith(begins) and link.is_symlink()
    assert duckdb.sql(f"from '{tmp_path}/rows.parquet'").fetchall() == [(1, 10), (2, 20), (3, 30)]
    piped = _sql(shop, "--format", "parquet", query)
    assert piped.stdout == (tmp_path / "rows.parquet").read_bytes()
    assert json.loads((tmp_path / "rows.JSON").read_text())[2] == {"id": 3, "amount": 30}

    before = sorted(tmp_path.iterdir())
    for words, says in (
        (["select error('boom') from orders"], b"boom"),
        (["set variable x = 1"], b"nothing to write"),
    ):
        failed = _sql(shop, "-o", str(tmp_path / "rows.parquet"), *words)
        assert failed.returncode != 0 and says in failed.stderr, failed
    nowhere = _sql(shop, "-o", str(tmp_path / "none" / "rows.csv"), query)
    assert (nowhere.returncode, nowhere.stderr) == (
        1,
        f"Error: Cannot write {tmp_path}/none/rows.csv: No such file or directory.\n".encode(),
    )
    assert _sql(shop, "-o", "/dev/full", "--format", "parquet", query).returncode == 1
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "rows.parquet").read_bytes().startswith(b"PAR1")


def test_rows_of_many_columns_take_little_memory(shop: smoll.Project) -> None:
    """As one long chain of ``||`` each column held a copy of all before it: 700 MB for this."""
    columns = ", ".join(f"i + {n} as c{n}, md5((i + {n})::varchar) as t{n}" for n in range(40))
    done = _sql(shop, "--format", "csv", f"select {columns} from range(20000) _(i)")
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, 20_001, b"")
    last = done.stdout.splitlines()[-1].split(b",")
    assert (len(last), last[0], last[2]) == (80, b"19999", b"20000")


class Terminal:
    """The shell on a pseudo terminal."""

    def __init__(self, project: smoll.Project, *words: str) -> None:
        # CPR: the terminal is not asked where its cursor is, as nobody here would answer.
        env = {**os.environ, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm", "NO_COLOR": "1"}
        command = ["-m", "smoll", "--project", str(project.config.root), "sql", *words]
        self.child = pexpect.spawn(sys.executable, command, env=env, encoding="utf-8", timeout=60, dimensions=(40, 200))
        self.prompted()

    def prompted(self) -> str:
        """Wait for the prompt. Returns what was printed before it."""
        self.child.expect(r"shop (\w+)>.*?\x1b\[\?25h")
        return re.sub(r"\x1b[\[(][0-9;?]*[A-Za-z]|\r", "", self.child.before)

    def type(self, keys: str) -> str:
        self.child.send(keys)
        if keys[-1] in "\r\x03":
            self.child.expect(r"\x1b\[\?2004l")  # what was typed is taken
            return self.prompted()
        return ""


@pytest.fixture
def terminal(shop: smoll.Project) -> Iterator[Terminal]:
    started = Terminal(shop)
    yield started
    started.child.close(force=True)


def _typed(project: smoll.Project) -> list[str]:
    """What the history has, in order."""
    text = (project.config.root / ".smoll" / "sql_history").read_text(encoding="utf-8")
    return ["\n".join(re.findall(r"^\+(.*)$", entry, re.M)) for entry in text.split("\n#")[1:]]


def test_the_shell_completes_answers_and_remembers(shop: smoll.Project, terminal: Terminal) -> None:
    said = terminal.type("from ord\t o\rselect o.am\t, max(cus\t) group by all order by 1;\r")
    assert "30" in said and "3 rows, " in said
    assert _typed(shop)[-1] == "from orders o\nselect o.amount, max(customer_id) group by all order by 1;"
    assert stat.S_IMODE((shop.config.root / ".smoll" / "sql_history").stat().st_mode) == 0o600
    assert "3 rows, " in terminal.type("\x1b[A\r"), "arrow up brings it back"

    assert "customer_id" in terminal.type(".describe orders\r")
    assert "orders" in terminal.type(".tables\r")
    terminal.type(".format csv\r")
    assert "id,amount\n1,10\n" in terminal.type("select id, amount from orders where id = 1; select 2 as two;\r")
    said = terminal.type("select 'a;\rb' as x;\r")
    assert '"a;\nb"' in said and "1 row, " in said
    assert "Error: .nothing is not known." in terminal.type(".nothing\r")
    assert 'Error: line 2, column 3: Binder Error: Referenced column "nope"' in terminal.type(
        "select 1; select id +\r  nope from orders; select 3;\r"
    )
    terminal.child.sendeof()
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0
    again = Terminal(shop)
    assert "Binder Error" in again.type("\x1b[A\r"), "another shell knows what was asked in the last"
    again.child.close(force=True)


def test_ctrl_c_ends_a_query_or_a_line_and_never_the_shell(terminal: Terminal) -> None:
    endless = "with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r;"
    deaf = "select levenshtein(repeat('a', 300_000), repeat('b', 300_000));"
    for query in (endless, deaf):
        terminal.child.send(f"{query}\r")
        terminal.child.expect(r"\x1b\[\?2004l")
        time.sleep(0.3)
        terminal.child.sendintr()
        assert "Interrupted." in terminal.prompted()
    assert terminal.type("select garbage\x03") == ""
    assert "emory" in terminal.type("select histogram(i) from range(100_000_000) t(i);\r")
    assert "permission" in terminal.type("from read_text('/etc/hostname');\r").lower()
    assert "3 rows, " in terminal.type("from orders;\r")
    worker = psutil.Process(terminal.child.pid).children()[0]
    terminal.child.kill(9)
    assert psutil.wait_procs([worker], timeout=10)[1] == []


def test_the_shell_follows_what_readers_see(shop: smoll.Project, terminal: Terminal) -> None:
    assert "Now release" not in terminal.type("select count(*) as n from orders;\r")
    shop.rollback(1)
    said = terminal.type("select 'n' || count(*) as n from orders;\r")
    assert "Now release 1." in said and "n2" in said
    assert terminal.child.match[1] == "1"
    terminal.type(".release 2\r")
    said = terminal.type("select 'n' || count(*) as n from orders;\r")
    assert "n3" in said and "Now release" not in said
    assert "Error: There is no release 9." in terminal.type(".release 9\r")
    assert terminal.child.match[1] == "2"
    terminal.type(".release\r")
    assert "n2" in terminal.type("select 'n' || count(*) as n from orders;\r")
    shop.resume()
    fixed = Terminal(shop, "--release", "1")
    assert "n2" in fixed.type("select 'n' || count(*) as n from orders;\r")
    fixed.child.close(force=True)


def test_a_shell_that_looks_at_the_working_warehouse_keeps_no_run_from_it(shop: smoll.Project) -> None:
    shell = Terminal(shop, "--raw")
    assert "2 rows" in shell.type("from raw_shop.customers;\r")
    assert shop.run().status == "ok"
    assert "3 rows" in shell.type("from raw_shop.orders;\r")
    shell.child.close(force=True)
