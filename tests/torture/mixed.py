"""A small project with a stream in every mode, an incremental model, a snapshot and checks, and what it comes to."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import smoll
from smoll.portal import prepare_scripts
from smoll.release import Candidate, hash_tables
from smoll.state.layout import Layout
from support import write, write_project

CONFIG = """\
release: {keep: 2}
sources:
  s:
    kind: files
    streams:
      events: {path: "data/events/*.csv", mode: append}
      accounts: {path: data/accounts.csv, mode: merge, key: id}
      prices: {path: data/prices.csv, mode: scd2, key: id}
      plans: data/plans.csv
"""
SNAPSHOT = """\
snapshots:
  - name: plans_history
    relation: source('s', 'plans')
    config: {strategy: check, unique_key: id, check_cols: [tier]}
"""
MODELS = {
    "marts/events": """\
{{ config(materialized='incremental', unique_key='id') }}
select id, account, amount from {{ source('s', 'events') }}
{% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}
""",
    "marts/accounts": "{{ config(materialized='table') }} select id, name from {{ source('s', 'accounts') }}",
    "marts/prices": "select id, price, _smoll_current as is_current from {{ source('s', 'prices') }}",
    "marts/plans": "select id, tier, dbt_valid_to is null as is_current from {{ ref('plans_history') }}",
    "marts/marts.yml": """\
models:
  - name: events
    columns:
      - {name: id, data_tests: [unique]}
      - name: account
        data_tests: [{relationships: {arguments: {to: ref('accounts'), field: id}}}]
""",
}
LOAD_METADATA = frozenset({"_smoll_load_id", "_smoll_loaded_at", "_smoll_file"})
Content = dict[str, tuple[int, str]]


def version(number: int) -> dict[str, str]:
    """The files of one version of the data: some rows more, some changed, some gone."""
    events = "".join(f"{number * 100 + i},{i % 3},{i * number}\n" for i in range(40))
    prices = "".join(f"{i},{i if i < 15 else i * number}\n" for i in range(20 - number))
    return {
        f"data/events/{number}.csv": f"id,account,amount\n{events}",
        "data/accounts.csv": "id,name\n" + "".join(f"{i},name {i} {number}\n" for i in range(3 + number)),
        "data/prices.csv": f"id,price\n{prices}",
        "data/plans.csv": "id,tier\n" + "".join(f"{i},{'free' if i < number else 'paid'}\n" for i in range(6)),
    }


def make_mixed(root: Path) -> Path:
    """Make the project in a new folder, with releases 1 and 2, which are all that is kept, and version 3 to load."""
    root.mkdir()
    write_project(root, CONFIG, {"transform/snapshots/plans.yml": SNAPSHOT}, MODELS, {})
    for number in (1, 2):
        write(root, version(number))
        result = smoll.open_project(root).run()
        assert (result.status, result.release.number) == ("ok", number), result
    prepare_scripts(Layout(root))  # or each copy would make for itself what the charts of release 3 need, for 2 seconds
    while not list((root / ".smoll" / "portal").glob("vega-*.js")):
        time.sleep(0.1)
    write(root, version(3))
    return root


def content(root: Path) -> Content:
    """Rows and hash of every table of `current`, computed anew; asserts that its manifest says the same."""
    project = smoll.open_project(root)
    manifest = project.release().manifest
    with project.connect() as connection:
        candidates = [Candidate(table.id, table.ref, ignored=LOAD_METADATA) for table in manifest.tables]
        tables = hash_tables(connection, candidates)
    assert tables == manifest.tables
    return {str(table.ref): (table.rows, table.hash) for table in tables}


def copy(root: Path, name: str) -> Path:
    """A copy beside it that is equal to the nanosecond."""
    return Path(shutil.copytree(root, root.with_name(name), symlinks=True))


def assert_sound(root: Path, before: Content, after: Content) -> None:
    """`current` is the release before or the one after, and the next run brings the one after, whole and once."""
    assert content(root) in (before, after)
    result = smoll.open_project(root).run()
    assert result.exit_code == 0, result
    assert_clean(root, after)


def assert_clean(root: Path, after: Content) -> None:
    """`current` is as it should be after a run, and nothing is left of the one that was not."""
    assert content(root) == after
    releases = root / ".smoll" / "releases"
    assert [path.name for path in releases.iterdir() if path.name.startswith(".")] == []
    assert smoll.open_project(root).status().running is None
