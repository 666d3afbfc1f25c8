"""The page on Dagster: its files are written as they stand there, loaded by Dagster, and run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import yaml  # type: ignore[import-untyped]

from docs.markdown import ROOT, blocks
from graph_support import FILES, MODELS, YML
from support import MakeProject, write

PAGE = (ROOT / "docs" / "dagster.md").read_text(encoding="utf-8")
TEAM = """
import dagster as dg

@dg.asset(deps=["revenue"])
def mail() -> None: ...

defs = dg.Definitions(assets=[mail])
"""


def block(start: str) -> str:
    return next(each.text for each in blocks(PAGE) if each.text.startswith(start))


@pytest.mark.parametrize(("start", "more"), [("# file: definitions.py", 0), ("import dagster as dg", 1)])
def test_the_definitions_of_the_page(make_project: MakeProject, tmp_path: Path, start: str, more: int) -> None:
    """As `dagster asset materialize` loads them: one file, in the project's folder."""
    root = make_project(YML, {**FILES, "definitions.py": block(start), "my_team.py": TEAM}, MODELS).config.root
    home = tmp_path / "dagster"
    home.mkdir()
    program = Path(sys.executable).parent / "dagster"
    done = subprocess.run(
        [program, "asset", "materialize", "-f", "definitions.py", "-d", ".", "--select", "*"],
        cwd=root,
        env={"PATH": "/usr/bin:/bin", "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (run,) = instance.get_runs()
        made = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert len(made) == 8 + more
    assert (root / ".smoll/releases/current").resolve().name == "1"


def test_the_component_of_the_page(make_project: MakeProject, tmp_path: Path) -> None:
    """In a `dg` project; only the path of the project is another one here."""
    from dagster.components.core.component_tree import ComponentTree

    root = make_project(YML, FILES, MODELS).config.root
    text = block("# file: src/my_project/defs/flights/defs.yaml")
    assert yaml.safe_load(text)["attributes"] == {"project": "/home/me/flights"}
    settings = "[tool.dg]\ndirectory_type = 'project'\n[tool.dg.project]\nroot_module = 'my_project'\n"
    package = {
        "my_project/__init__.py": "",
        "my_project/defs/__init__.py": "",
        "my_project/defs/flights/defs.yaml": text.replace("/home/me/flights", str(root)),
    }
    write(
        tmp_path / "my_project", {"pyproject.toml": settings, **{f"src/{name}": text for name, text in package.items()}}
    )
    sys.path.insert(0, str(tmp_path / "my_project/src"))
    try:
        defs = ComponentTree.for_project(tmp_path / "my_project").build_defs()
    finally:
        sys.path.remove(str(tmp_path / "my_project/src"))
    assert "tests/release" in {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}


def test_the_way_out(make_project: MakeProject, tmp_path: Path) -> None:
    """Plain dbt builds the project, without smoll, over the warehouse that smoll has filled."""
    project = make_project(YML, FILES, MODELS)
    assert project.run().status == "ok"
    root = project.config.root
    profile = {
        "tests": {"target": "t", "outputs": {"t": {"type": "duckdb", "path": str(root / ".smoll/warehouse.duckdb")}}}
    }
    write(tmp_path, {"profiles/profiles.yml": yaml.safe_dump(profile)})
    dbt = Path(sys.executable).parent / "dbt"
    done = subprocess.run(
        [dbt, "build", "--project-dir", root / "transform", "--profiles-dir", tmp_path / "profiles"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    with duckdb.connect(str(root / ".smoll/warehouse.duckdb"), read_only=True) as connection:
        connection.execute(f"COPY main.revenue TO '{tmp_path}/flights.parquet'")
        assert connection.execute(f"SELECT count(*) FROM '{tmp_path}/flights.parquet'").fetchone() == (2,)
