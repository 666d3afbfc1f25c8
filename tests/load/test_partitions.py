"""Partitions in paths: folders named ``name=value`` are columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import MakeProject, files_yml, load, parquet, raw, rows, types, write


@pytest.mark.parametrize("format", ["csv", "json", "ndjson", "parquet"])
def test_folders_are_columns_in_every_format(make_project: MakeProject, format: str) -> None:
    project = make_project(files_yml(f"data/year=*/month=*/*.{format}"))
    for year, month in ((2023, "01"), (2024, "12")):
        file = project.config.root / f"data/year={year}/month={month}/x.{format}"
        if format == "parquet":
            parquet(f"SELECT {year} * 2 AS id", file)
        else:
            text = {"csv": "id\n{0}\n", "json": '[{{"id": {0}}}]', "ndjson": '{{"id": {0}}}\n'}[format]
            write(project.config.root, {str(file.relative_to(project.config.root)): text.format(year * 2)})

    load(project)

    assert types(project) == {"id": types(project)["id"], "year": "BIGINT", "month": "VARCHAR"}
    assert rows(project) == [(4046, 2023, "01"), (4048, 2024, "12")]


def test_values_are_decoded_and_the_default_partition_is_null(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {
        "data/city=S%C3%A3o%20Paulo/1.csv": "id\n1\n",
        "data/city=__HIVE_DEFAULT_PARTITION__/2.csv": "id\n2\n",
        "data/city=it's=x/3.csv": "id\n3\n",
    }
    project = make_project(files_yml("data/*/*.csv"), files)
    load(project)
    assert rows(project) == [(1, "São Paulo"), (2, None), (3, "it's=x")]


def test_a_column_of_the_file_wins(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*/*.csv"), {"data/Year=2024/1.csv": "id,year\n1,7\n"})
    load(project)
    assert rows(project) == [(1, 7)]


def test_files_with_and_without_partitions_are_one_table(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {
        "data/0.csv": "id\n0\n",
        "data/a=1/1.csv": "id\n1\n",
        "data/a=2/b=x/2.csv": "id\n2\n",
    }
    project = make_project(files_yml("data/**/*.csv"), files)
    load(project)
    assert raw(project, "SELECT id, a, b FROM raw_s.t ORDER BY id") == [(0, None, None), (1, 1, None), (2, 2, "x")]


def test_only_folders_below_the_project_count(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(files_yml("data/x=1.csv"), {"data/x=1.csv": "id\n1\n"})
    load(project)
    assert types(project) == {"id": "BIGINT"}


def test_a_new_partition_is_loaded_alone(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/day=*/*.csv", incremental=True), {"data/day=2024-01-31/1.csv": "id\n1\n"})
    load(project)
    write(project.config.root, {"data/day=2024-02-01/1.csv": "id\n2\n"})
    assert load(project).rows == 1
    assert types(project)["day"] == "DATE"
    assert [str(row[1]) for row in rows(project)] == ["2024-01-31", "2024-02-01"]


@pytest.mark.parametrize("format", ["csv", "ndjson"])
def test_good_rows_beside_damaged_ones_keep_their_partitions(make_project: MakeProject, format: str) -> None:
    body = {"csv": "id\n1\n2,too,many\n3\n", "ndjson": '{"id": 1}\n{"id": 2,,}\n{"id": 3}\n'}[format]
    yml = files_yml(f"data/*/*.{format}", on_bad_row="quarantine")
    project = make_project(yml, {f"data/year=2024/x.{format}": body})

    result = load(project)

    assert (result.read, result.rejected) == (3, 1)
    assert rows(project) == [(1, 2024), (3, 2024)]
    assert raw(project, "SELECT _smoll_file, line FROM raw_s.t__rejected") == [
        (f"data/year=2024/x.{format}", 3 if format == "csv" else 2)
    ]
