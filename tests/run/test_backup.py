"""A backup is of one moment, whole or not there; a restore destroys nothing, and all goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from backports import zstd

import smoll
from run.shop import FILES, GOOD_ORDERS, MODELS, current, edit, published
from smoll.archive import PASSPHRASE
from smoll.errors import BackupError, LockedError, SmollError, UsageError
from smoll.events import CopyProgress, Event, LockWaiting, ReleaseStarted
from smoll.model import Backup
from support import KEY, SECRET, Bucket, MakeProject, raw, write, write_project

SOURCES = """\
sources:
  shop:
    kind: files
    streams:
      customers: data/customers.csv
      orders: data/orders.csv
  events: {kind: files, streams: {seen: {path: "data/seen*.csv", incremental: true, mode: append}}}
"""
HIDDEN = "hunter2-hidden"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with two releases, the first one rolled back to and pinned, a stream that goes on, and a secret."""
    root = tmp_path_factory.mktemp("sample") / "shop"
    write_project(
        root,
        SOURCES,
        FILES | {"data/seen1.csv": "n\n1\n2\n", ".env": f"TOKEN={HIDDEN}\n", ".envrc": f"export T={HIDDEN}"},
        MODELS,
        {},
    )
    shop = smoll.open_project(root)
    published(shop.run())
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    published(shop.run())
    shop.rollback()
    shop.pin(1)
    return root


@pytest.fixture
def shop(sample: Path, tmp_path: Path) -> smoll.Project:
    """The sample in a folder of its own, whose name has spaces and quotes."""
    return smoll.open_project(shutil.copytree(sample, tmp_path / 'it\'s a "shop"', symlinks=True))


def small(make_project: MakeProject, **files: str | bytes) -> smoll.Project:
    """A project that has never run."""
    return make_project("", {name.replace("__", "/"): text for name, text in files.items()})


def contents(folder: Path) -> dict[str, str]:
    """A hash of each file, and where each link leads."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def members(place: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(zstd.decompress(Path(place).read_bytes()))) as tar:
        found = {info.name: tar.extractfile(info) for info in tar if info.isfile()}
        return {name: file.read() for name, file in found.items() if file}


def test_all_is_destroyed_and_comes_back_elsewhere(shop: smoll.Project, tmp_path: Path) -> None:
    root = shop.config.root
    history = root / ".smoll/dagster/history/runs.db"
    history.parent.mkdir(parents=True)
    with closing(sqlite3.connect(history)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE runs AS SELECT 'one' AS id")
        db.commit()
    for junk in (
        ".venv/pyvenv.cfg",
        ".cache/CACHEDIR.TAG",
        ".git/config",
        "transform/target/x",
        "backups/old.smoll.tar.zst",
    ):
        write(root, {junk: "no file of the project"})
    (root / "here.csv").symlink_to("data/orders.csv")
    (root / "away").symlink_to(tmp_path)
    before = contents(root / ".smoll/releases")
    status, states, releases, runs = shop.status(), shop.states(), shop.releases(), shop.runs()

    made = shop.backup(root / "backups")
    assert {part.name for part in made.parts} == {
        *("warehouse", "ledger", "releases", "Dagster's history", "logs", "project files")
    }
    assert [line.split(" is not in it")[0] for line in made.notes] == [".env", ".envrc", "away"]
    place = tmp_path / "safe.smoll.tar"
    Path(made.place).rename(place)
    assert place.stat().st_size == made.bytes and place.stat().st_mode & 0o777 == 0o600
    assert list((root / ".smoll/tmp").iterdir()) == []
    found = members(str(place))
    assert not any(HIDDEN.encode() in content for content in found.values())
    shutil.rmtree(root)

    target = tmp_path / "another machine"
    restored = smoll.restore(str(place), target)
    assert restored.root == target and restored.notes == made.notes
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    back = smoll.open_project(target)
    assert contents(target / ".smoll/releases") == before
    assert (back.states(), back.releases(), back.runs()) == (states, releases, runs)
    assert (back.status().hold, back.status().streams) == (status.hold, status.streams)
    assert (target / "here.csv").resolve() == target / "data/orders.csv"
    assert not (target / "backups/old.smoll.tar.zst").exists() and not (target / ".git").exists()
    with closing(sqlite3.connect(target / ".smoll/dagster/history/runs.db")) as db:
        assert db.execute("SELECT id FROM runs").fetchall() == [("one",)]

    assert (current(back), back.resume().manifest.number, back.rollback(1).manifest.number) == (1, 2, 1)
    result = back.run()
    assert (result.run, result.release.status) == (3, "unchanged"), result
    assert {stream.status for stream in result.streams} == {"unchanged"}
    edit(back, "data/seen2.csv", "n\n3\n")
    assert back.run().status == "ok"
    assert raw(back, "SELECT n FROM raw_events.seen ORDER BY n") == [(1,), (2,), (3,)]


def test_a_backup_waits_for_a_run_and_says_so(shop: smoll.Project, tmp_path: Path) -> None:
    waiting, made = threading.Event(), []

    def heard(event: Event) -> None:
        if isinstance(event, LockWaiting):
            assert event.holder.command == "smoll run"
            waiting.set()

    thread = threading.Thread(target=lambda: made.append(shop.backup(tmp_path, on_event=heard)))

    def during(event: Event) -> None:
        if isinstance(event, ReleaseStarted):
            with pytest.raises(LockedError, match="smoll run"):
                shop.backup(tmp_path, wait=False)
            thread.start()
            assert waiting.wait(60)

    edit(shop, "data/orders.csv", FILES["data/orders.csv"])
    assert shop.run(on_event=during).release.number == 3
    thread.join(60)
    (backup,) = made
    assert isinstance(backup, Backup)
    back = smoll.open_project(smoll.restore(backup.place, tmp_path / "back").root)
    assert [run.status for run in back.runs()] == ["ok", "ok", "ok"]
    assert [entry.manifest.number for entry in back.releases()] == [3, 2, 1]


WRITER = """\
import sqlite3, sys
with sqlite3.connect(sys.argv[1], isolation_level=None) as db:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE a (n)"); db.execute("CREATE TABLE b (n)")
    n = 0
    while True:
        n += 1
        db.execute("BEGIN"); db.execute("INSERT INTO a VALUES (?)", (n,)); db.execute("INSERT INTO b VALUES (?)", (n,))
        db.execute("COMMIT")
        if n == 100:
            print("writing", flush=True)
"""


def test_databases_that_dagster_writes_are_copied_as_of_one_moment(make_project: MakeProject, tmp_path: Path) -> None:
    project = small(make_project)
    folder = project.config.root / ".smoll/dagster/history/runs"
    folder.mkdir(parents=True)
    write(
        project.config.root,
        {".smoll/dagster/dagster.yaml": "base_dir: /old/place", ".smoll/dagster/storage/x/1.out": "log"},
    )
    command = [sys.executable, "-c", WRITER, str(folder / "index.db")]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
        for number in range(5):
            made = project.backup(tmp_path / f"{number}.tar")
            back = smoll.restore(made.place, tmp_path / str(number)).root / ".smoll/dagster"
            assert sorted(contents(back)) == ["history/runs/index.db", "storage/x/1.out"]
            with closing(sqlite3.connect(back / "history/runs/index.db")) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                a, b = (db.execute(f"SELECT count(*), max(n) FROM {table}").fetchone() for table in "ab")
                assert a == b and a[0] == a[1] >= 100
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()


def test_a_rollback_meanwhile_is_in_it_or_not(shop: smoll.Project, tmp_path: Path) -> None:
    """Link, hold and releases are of one moment, and a release that goes meanwhile is still whole."""
    changed: list[int] = []

    def meanwhile(event: Event) -> None:
        if isinstance(event, CopyProgress) and not changed:
            changed.append(shop.resume().manifest.number)
            shop.unpin(1)
            shutil.rmtree(shop.config.root / ".smoll/releases/1")

    made = shop.backup(tmp_path, on_event=meanwhile)
    assert changed == [2]
    back = smoll.open_project(smoll.restore(made.place, tmp_path / "back").root)
    assert current(back) == 1 and back.status().hold is not None and back.release(1).pinned
    assert (current(shop), shop.status().hold) == (2, None)


@pytest.mark.parametrize("shares", [True, False])
def test_with_reflinks_the_lock_is_given_back_at_once(
    make_project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shares: bool
) -> None:
    project = make_project(SOURCES, FILES | {"data/seen.csv": "n\n1\n"})
    assert project.run().status == "ok"
    journal = project.config.root / ".smoll/journals/tap/log.ndjson"
    write(project.config.root, {journal.relative_to(project.config.root).as_posix(): "old"})

    def reflink(source: Path, target: Path) -> bool:
        return shares and bool(shutil.copyfile(source, target))

    monkeypatch.setattr("smoll.backup.reflink", reflink)
    seen: list[bool] = []

    def during(event: Event) -> None:
        if isinstance(event, CopyProgress) and not seen:
            seen.append(project.status().running is None)
            if seen[0]:
                journal.write_text("new")
                edit(project, "data/seen.csv", "n\n2\n")
                assert project.run(wait=False).run == 2

    made = project.backup(tmp_path, on_event=during)
    assert seen == [shares]
    back = smoll.open_project(smoll.restore(made.place, tmp_path / "back").root)
    assert [run.run for run in back.runs()] == [1]
    assert raw(back, "SELECT n FROM raw_events.seen") == [(1,)]
    assert (back.config.root / ".smoll/journals/tap/log.ndjson").read_text() == "old"


def test_encrypted_it_holds_secrets_and_shows_nothing(
    shop: smoll.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = shop.config.root / ".smoll/configs/tap.json"
    configs.parent.mkdir()
    configs.write_text(json.dumps({"refresh_token": HIDDEN}))
    configs.chmod(0o600)
    assert [line for line in shop.backup(tmp_path).notes if "configs" in line]
    write(shop.config.root, {"data/noise": os.urandom(300_000)})  # so that there are several frames
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    made = shop.backup(tmp_path)
    assert made.encrypted and made.notes == () and made.place.endswith(".smoll.tar.zst.enc")
    whole = Path(made.place).read_bytes()
    assert not any(word in whole for word in (HIDDEN.encode(), b"customers", b"backup.json"))
    back = smoll.restore(made.place, tmp_path / "back").root
    assert (back / ".env").read_text() == f"TOKEN={HIDDEN}\n"
    assert (back / ".smoll/configs/tap.json").stat().st_mode & 0o777 == 0o600
    assert contents(back / ".smoll/releases") == contents(shop.config.root / ".smoll/releases")

    def refuses(content: bytes, words: str) -> None:
        (tmp_path / "damaged.enc").write_bytes(content)
        with pytest.raises(BackupError, match=words):
            smoll.restore(str(tmp_path / "damaged.enc"), tmp_path / "no")
        assert not any("no" in path.name for path in tmp_path.iterdir())

    middle = len(whole) // 2
    refuses(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], "not what was written")
    refuses(whole[:middle], "cut off")
    refuses(whole[: (len(whole) - 83) // 65553 * 65553 + 83 - 65553], "cut off")  # at the end of a frame
    refuses(whole[:60], "cut off")
    monkeypatch.setenv(PASSPHRASE, "wrong horse")
    refuses(whole, "cannot be decrypted")
    monkeypatch.delenv(PASSPHRASE)
    refuses(whole, "is encrypted")


def test_cut_off_or_damaged_it_is_refused_and_nothing_is_left(make_project: MakeProject, tmp_path: Path) -> None:
    project = small(make_project, data__a="a" * 3000, data__b="b" * 700)
    place = Path(project.backup(tmp_path / "whole.tar").place)
    whole = place.read_bytes()
    plain = zstd.decompress(whole)

    def refuses(content: bytes) -> None:
        place.write_bytes(content)
        with pytest.raises(BackupError, match=r"damaged|no backup"):
            smoll.restore(str(place), tmp_path / "back")

    def is_same(changed: bytes) -> bool:
        try:
            return zstd.decompress(changed) == plain
        except zstd.ZstdError:
            return False

    for length in range(0, len(whole), 17):
        refuses(whole[:length])
        changed = whole[:length] + bytes([whole[length] ^ 8]) + whole[length + 1 :]
        if not is_same(changed):  # some bits of zstd's mean nothing
            refuses(changed)
    for length in range(0, len(plain) - 2048, 512):  # but for the zeros behind the index
        refuses(zstd.compress(plain[:length]))
    for word in (b"a" * 3000, b"b" * 700, b"project/data/a"):
        assert word in plain
        refuses(zstd.compress(plain.replace(word, word[:-1] + b"c")))
    assert sorted(path.name for path in tmp_path.iterdir() if path != project.config.root) == ["whole.tar"]
    place.write_bytes(whole)
    assert (smoll.restore(str(place), tmp_path / "back").root / "data/b").read_text() == "b" * 700


def test_what_would_lie_outside_and_what_is_newer_is_refused(make_project: MakeProject, tmp_path: Path) -> None:
    made = small(make_project).backup(tmp_path / "sound.tar")

    def refuses(
        words: str, change: Callable[[tarfile.TarInfo], None], about: dict[str, object] | None = None, below: str = ""
    ) -> None:
        """A backup with one member more, or with something else in its ``backup.json``, or a link below a link."""
        place = tmp_path / "evil.tar"
        before, after = io.BytesIO(zstd.decompress(Path(made.place).read_bytes())), io.BytesIO()
        with tarfile.open(fileobj=before) as old, tarfile.open(fileobj=after, mode="w") as new:
            for info in old:
                file = old.extractfile(info)
                data = file.read() if file else b""
                if info.name == "backup.json" and about:
                    data = json.dumps(json.loads(data) | about).encode()
                    info.size = len(data)
                if info.name == "index.json":
                    more = tarfile.TarInfo("project/more")
                    change(more)
                    new.addfile(more)
                    if below:
                        link = tarfile.TarInfo(f"project/{below}")
                        link.type, link.linkname = tarfile.SYMTYPE, "x"
                        new.addfile(link)
                        index = json.loads(data) | {more.name: f"-> {more.linkname}", link.name: "-> x"}
                        data = json.dumps(index).encode()
                        info.size = len(data)
                new.addfile(info, io.BytesIO(data))
        place.write_bytes(zstd.compress(after.getvalue()))
        with pytest.raises(BackupError, match=words):
            smoll.restore(str(place), tmp_path / "back")
        assert not (tmp_path / "back").exists()

    def of(**fields: object) -> Callable[[tarfile.TarInfo], None]:
        def change(info: tarfile.TarInfo) -> None:
            for name, value in fields.items():
                setattr(info, name, value)

        return change

    for name in ("../outside", "project/../../outside", "/outside", "project//etc/outside", "project/a/../../b"):
        refuses("outside", of(name=name))
    for target in ("/etc/passwd", "../outside", ".smoll/../../outside"):
        refuses("leads outside", of(type=tarfile.SYMTYPE, linkname=target))
    refuses("where another member is", of(name="project/away", type=tarfile.SYMTYPE, linkname="."), below="away/link")
    refuses("no file, folder or link", of(type=tarfile.LNKTYPE, linkname="project/smoll.yml"))
    refuses("no file, folder or link", of(type=tarfile.FIFOTYPE))
    refuses("not what was written", of(name="project/unknown"))
    refuses("twice", of(name="project/smoll.yml"))
    refuses("made by a newer smoll", of(), {"format": 2})
    refuses("damaged", of(), {"created": "yesterday"})
    (tmp_path / "evil.tar").write_text("no tar at all")
    with pytest.raises(BackupError, match="no backup"):
        smoll.restore(str(tmp_path / "evil.tar"), tmp_path / "back")


def test_nothing_is_overwritten(make_project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = small(make_project)
    made = project.backup(tmp_path / "b.tar")
    with pytest.raises(UsageError, match="exists already"):
        project.backup(tmp_path / "b.tar")
    with pytest.raises(UsageError, match="no folder"):
        project.backup(f"{tmp_path}/missing/")
    with pytest.raises(UsageError, match="no place"):
        project.backup("ftp://host/x")
    with pytest.raises(UsageError, match=r"is not empty: \.smoll, smoll\.yml"):
        smoll.restore(made.place, project.config.root)
    with pytest.raises(UsageError, match=r"is a folder"):
        smoll.restore(str(tmp_path), tmp_path / "x")
    (tmp_path / "empty").mkdir()
    assert smoll.restore(made.place, tmp_path / "empty").root == tmp_path / "empty"
    monkeypatch.chdir(tmp_path)
    assert smoll.restore("b.tar").root == tmp_path / "tests"
    with pytest.raises(UsageError, match="not empty"):
        smoll.restore("b.tar")


KILLED = """\
import os, signal, sys
import smoll
what, at, *words = sys.argv[1:]
seen = 0
def hook(name, arguments):
    global seen
    if name == "open" and isinstance(arguments[0], str) and at in arguments[0]:
        seen += 1
        if seen == 3:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
smoll.restore(*words) if what == "restore" else smoll.open_project(words[0]).backup(words[1])
"""


def test_killed_half_way_nothing_is_under_the_final_name(shop: smoll.Project, tmp_path: Path) -> None:
    place = tmp_path / "all.smoll.tar.zst"

    def killed(*words: str) -> None:
        done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr

    killed("backup", "/data/", str(shop.config.root), str(place))
    assert [path.name.split(".")[1] for path in tmp_path.glob(".*.tmp")] == ["all"] and not place.exists()
    left = list((shop.config.root / ".smoll/tmp").glob("backup-*/releases/1/warehouse.duckdb"))
    assert len(left) == 1
    assert any(".smoll/tmp/backup-" in one.path for one in shop.gc(dry_run=True))
    shop.backup(place)
    assert not list(tmp_path.glob(".*.tmp")) and not left[0].exists()

    killed("restore", ".restoring-", str(place), str(tmp_path / "back"))
    assert len(list(tmp_path.glob(".back.restoring-*"))) == 1 and not (tmp_path / "back").exists()
    assert current(smoll.open_project(smoll.restore(str(place), tmp_path / "back").root)) == 1
    assert not list(tmp_path.glob(".back*"))


def test_a_full_disk_leaves_nothing_and_is_told(make_project: MakeProject, tmp_path: Path) -> None:
    project = small(make_project, data__large=os.urandom(3_000_000))
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000000, 2000000))\n"
    script = f"{limit}from smoll.cli import main; sys.exit(main(sys.argv[1:]))"

    def fails(*words: str) -> str:
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        return done.stderr

    said = fails("--project", str(project.config.root), "backup", str(tmp_path / "b.tar"))
    assert said.startswith(f"Error: Cannot write {tmp_path}/b.tar: File too large.\n  Free some space")
    assert [path for path in tmp_path.iterdir() if path != project.config.root] == []
    project.backup(tmp_path / "b.tar")
    assert "Error: Cannot restore to" in fails("restore", str(tmp_path / "b.tar"), str(tmp_path / "back"))
    assert sorted(path.name for path in tmp_path.iterdir() if path != project.config.root) == ["b.tar"]


def test_an_object_store(
    make_project: MakeProject, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    keys = {"AWS_ENDPOINT": bucket.server, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": KEY}
    keys |= {"AWS_SECRET_ACCESS_KEY": SECRET}
    large = os.urandom(40_000_000)  # more than one part
    env = "".join(f"{name}={value}\n" for name, value in keys.items())
    project = make_project("", {"data/large": large, ".env": env})
    made = project.backup(f"{bucket.url}/in/")
    assert made.place.startswith(f"{bucket.url}/in/tests-") and made.place.endswith(".smoll.tar.zst")
    assert project.backup(f"{bucket.url}/one.tar").place == f"{bucket.url}/one.tar"

    with pytest.raises(UsageError, match="exists already"):
        project.backup(f"{bucket.url}/one.tar")

    def listed() -> list[str]:
        return sorted(meta["path"] for batch in obstore.list(bucket.store) for meta in batch)

    key = made.place.removeprefix(f"{bucket.url}/")
    assert listed() == [key, "one.tar"]
    for name, value in keys.items():  # no project, no .env
        monkeypatch.setenv(name, value)
    back = smoll.restore(made.place, tmp_path / "back").root
    assert (back / "data/large").read_bytes() == large
    whole = bytes(obstore.get(bucket.store, key).bytes())
    obstore.put(bucket.store, key, whole[: len(whole) // 2])
    with pytest.raises(BackupError, match="damaged"):
        smoll.restore(made.place, tmp_path / "no")
    with pytest.raises(UsageError, match="no object"):
        smoll.restore(f"{bucket.url}/missing", tmp_path / "no")

    def breaks(event: Event) -> None:
        if isinstance(event, CopyProgress) and event.done > 17_000_000:
            raise SmollError("enough")

    monkeypatch.setattr("smoll.backup._TELL_SECONDS", 0)
    with pytest.raises(SmollError, match="enough"):
        project.backup(f"{bucket.url}/two.tar", on_event=breaks)
    assert listed() == [key, "one.tar"]
    with pytest.raises(BackupError, match="cannot be written") as caught:
        project.backup("s3://no-such-bucket/x/")
    assert SECRET not in str(caught.value)
