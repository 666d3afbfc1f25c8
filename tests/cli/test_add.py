"""``smoll add``: a new source in the project file, with everything else in it as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import smoll
from smoll.errors import ConfigError, LoadError, UsageError
from smoll.project import AirbyteSource, SingerSource
from wheels import MUTE_TAP, SOURCE, build_wheel

MANIFEST = """\
version: 7.0.0
type: DeclarativeSource
spec:
  type: Spec
  connection_specification:
    type: object
    required: [api_key]
    properties:
      api_key: {type: string, airbyte_secret: true}
"""
HEAD = "# my project\nname:   tests  # its name\n"


def project(tmp_path: Path, text: str = HEAD) -> Path:
    root = tmp_path / "project"
    root.mkdir(exist_ok=True)
    (root / "smoll.yml").write_bytes(text.encode())
    return root


def text_of(root: Path) -> str:
    return (root / "smoll.yml").read_bytes().decode()


def add(root: Path, kind: str = "files", name: str = "new") -> str:
    """Add a source and return the text, of which all lines that were there are still there, in their order."""
    before = text_of(root)
    added = smoll.add_source(kind, name, root)
    after = text_of(root)
    assert after.splitlines()[added.line - 1].strip() == f"{name}:"
    rest = iter(after.splitlines())
    lost = [line for line in before.splitlines() if not line.startswith("sources:") and line not in rest]
    assert lost == []
    assert name in smoll.open_project(root).config.sources
    return after


def test_without_sources_they_are_begun(tmp_path: Path) -> None:
    after = add(project(tmp_path))
    assert after.startswith(
        f"{HEAD}\nsources:\n  new:\n    kind: files\n    streams:\n      new:\n        path: data/new.csv"
    )
    assert after.endswith("\n") and not after.endswith("\n\n")


@pytest.mark.parametrize("value", ["", " {}", " ~", " null", " {  }"])
def test_empty_sources_are_filled(tmp_path: Path, value: str) -> None:
    root = project(tmp_path, f"{HEAD}sources:{value} # nothing yet\n  # nyc:\n  #   kind: files\n\ntransform: dbt\n")
    lines = add(root).splitlines()
    assert lines[2:6] == ["sources: # nothing yet", "  # nyc:", "  #   kind: files", "  new:"]
    assert lines[-2:] == ["", "transform: dbt"]


@pytest.mark.parametrize(
    "last",
    [
        "streams: {a: data/a.csv}",
        "streams: {a: data/a.csv} # why\n    # naming: keep",
        "streams:\n      a: data/a.csv\n      b:\n        path: [x.csv,\n          y.csv]",
        "streams:\n      a:\n        path: >-\n          data/a.csv\n\n\n",
        "streams:\n      a: data/a.csv\n    metadata:",
        "streams:\n      a: 'data/a\n        b.csv'\n\n    # about it\n\n",
    ],
)
@pytest.mark.parametrize("after", ["", "\ntransform: dbt\n", "\n# about dbt\ntransform: dbt # here\n"])
def test_it_is_the_last_source(tmp_path: Path, last: str, after: str) -> None:
    root = project(tmp_path, f"{HEAD}sources:\n  old: # first\n    kind: files\n    {last}\n{after}")
    text = add(add_again(root))
    config = smoll.open_project(root).config
    assert list(config.sources) == ["old", "again", "new"]
    if "# about dbt" in after:
        assert "\n# about dbt\ntransform: dbt # here\n" in text
    if "# naming" in last:
        assert text.index("# naming") < text.index("again:")
    if "# about it" in last:
        assert text.index("# about it") < text.index("again:")


def add_again(root: Path) -> Path:
    add(root, name="again")
    return root


def test_the_indentation_and_the_line_ends_are_those_of_the_file(tmp_path: Path) -> None:
    old = "sources:\r\n      old:\r\n        kind: files\r\n        streams: {a: a.csv}\r\ntransform: dbt"
    root = project(tmp_path, f"\ufeffname: tests\r\n{old}")
    (root / "smoll.yml").chmod(0o640)
    text = add(root)
    assert text.startswith("\ufeffname: tests\r\n") and text.count("\n") == text.count("\r\n")
    assert "\r\n      new:\r\n        kind: files\r\n" in text
    assert text.endswith("\r\ntransform: dbt")
    assert (root / "smoll.yml").stat().st_mode & 0o777 == 0o640


def test_a_linked_file_stays_a_link(tmp_path: Path) -> None:
    root = project(tmp_path)
    (root / "smoll.yml").rename(tmp_path / "real.yml")
    (root / "smoll.yml").symlink_to(tmp_path / "real.yml")
    add(root)
    assert (root / "smoll.yml").is_symlink() and "new:" in (tmp_path / "real.yml").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "name: tests\nsources: {old: {kind: files, streams: {a: a.csv}}}\n",
            r"smoll.yml:2: `sources` is written in \{",
        ),
        ("{name: tests}\n", r"written as one \{"),
        ("name: tests\nsources:\n  new: {kind: files, streams: {a: a.csv}}\n", r"smoll.yml:3: there is a source 'new'"),
    ],
)
def test_where_there_is_no_place_it_is_refused(tmp_path: Path, text: str, words: str) -> None:
    root = project(tmp_path, text)
    with pytest.raises(UsageError, match=words):
        smoll.add_source("files", "new", root)
    assert text_of(root) == text


@pytest.mark.parametrize("text", ["name: tests\nsuorces: {}\n", "name: [tests\n", "- a\n"])
def test_a_broken_file_is_told_and_left_alone(tmp_path: Path, text: str) -> None:
    root = project(tmp_path, text)
    with pytest.raises((ConfigError, UsageError)):
        smoll.add_source("files", "new", root)
    assert text_of(root) == text


def test_what_would_not_load_is_put_back(tmp_path: Path) -> None:
    root = project(
        tmp_path, f"{HEAD}sources:\n  old:\n    kind: files\n    schema: raw_new\n    streams: {{new: a.csv}}\n"
    )
    before = text_of(root)
    with pytest.raises(ConfigError, match=r"loads into raw_new.new, and so does old.new"):
        smoll.add_source("files", "new", root)
    assert text_of(root) == before


@pytest.mark.parametrize("kind", ["files", "sql", "rest", "dlt"])
def test_the_templates_load_as_they_are(tmp_path: Path, kind: str) -> None:
    root = project(tmp_path)
    added = smoll.add_source(kind, "new", root)
    (root / ".env").write_text("NEW_URL=postgresql://localhost/db\n")
    assert smoll.open_project(root).config.sources["new"].kind == kind
    assert added.variables == (("NEW_URL",) if kind == "sql" else ())
    assert "#" in added.block


def test_the_options_of_the_templates(tmp_path: Path) -> None:
    root = project(tmp_path)
    smoll.add_source("files", "nyc", root, paths=["data/flights*.csv", "data/planes.parquet"])
    smoll.add_source("rest", "web", root, url="https://api.test/v1")
    smoll.add_source("dlt", "hub", root, source="my_sources.hub")
    smoll.add_source("sql", "lite", root, url="sqlite:///shop.db")
    added = smoll.add_source("sql", "shop", root, url="postgresql://me:s3cr3tpass@localhost/db")
    assert (added.variables, added.missing) == (("SHOP_URL",), ("SHOP_URL",))
    assert "s3cr3tpass" not in text_of(root)
    smoll.add_source("files", "last", root)  # a variable that is still to be set is no reason to refuse
    (root / ".env").write_text("SHOP_URL=postgresql://localhost/db\n")
    sources = smoll.open_project(root).config.sources
    assert list(sources["nyc"].streams) == ["flights", "planes"]
    assert list(sources) == ["nyc", "web", "hub", "lite", "shop", "last"]
    assert smoll.add_source("sql", "shop2", root, url="${SHOP_URL}").missing == ()


@pytest.mark.parametrize(
    ("kind", "name", "options", "words"),
    [
        ("excel", "new", {}, "There is no kind 'excel'"),
        ("files", "a b", {}, "cannot be named 'a b'"),
        ("files", "new", {"tap": "tap-tiny"}, r"--tap is not for kind files.\n.*singer"),
        ("singer", "new", {}, r"needs --tap.\n.*smoll add singer new --tap"),
        ("airbyte", "new", {}, "needs --connector"),
        ("rest", "new", {"url": "https://me:pass1234@host"}, "holds a login"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, kind: str, name: str, options: dict[str, str], words: str) -> None:
    root = project(tmp_path)
    with pytest.raises(UsageError, match=words):
        smoll.add_source(kind, name, root, **options)  # type: ignore[arg-type]
    assert text_of(root) == HEAD


def test_a_tap(tmp_path: Path, wheels: Path) -> None:
    root = project(tmp_path)
    said = list[str]()
    added = smoll.add_source("singer", "tiny", root, tap="tap-tiny<2", tell=said.append)
    assert added.connector == "tap-tiny 1.0" and len(said) == 3
    assert (added.variables, added.missing) == (("TINY_TOKEN",), ("TINY_TOKEN",))
    assert (root / "connectors/tiny.lock").is_file()
    lines = added.block.splitlines()
    assert lines[:10] == [
        "tiny:",
        "  kind: singer",
        '  tap: "tap-tiny<2"',
        "  config: # all settings: smoll connectors spec tiny",
        "    # What the server knows you by. (text)",
        "    token: ${TINY_TOKEN}",
        "    # How many pages to read. (whole number; default 3)",
        "    # pages: 3",
        "    # text; one of small, large",
        "    # kind:",
    ]
    assert "`smoll connectors discover tiny` lists it" in lines[10]
    (root / ".env").write_text("TINY_TOKEN=s3cr3tpass\n")
    source = smoll.open_project(root).config.sources["tiny"]
    assert isinstance(source, SingerSource) and source.config == {"token": "s3cr3tpass"}


def test_an_airbyte_connector(tmp_path: Path, wheels: Path) -> None:
    root = project(tmp_path)
    added = smoll.add_source("airbyte", "people", root, connector="source-tiny")
    assert added.variables == ("PEOPLE_CREDENTIALS_CLIENT_SECRET",)
    assert added.block.splitlines()[3:-4] == [
        "  config: # all settings: smoll connectors spec people",
        "    # How to sign in (required; one of OAuth, Token)",
        "    credentials:",
        "      # OAuth:",
        "      auth: oauth",
        "      # text",
        "      client_secret: ${PEOPLE_CREDENTIALS_CLIENT_SECRET}",
        "      # or Token:",
        "      # auth: token",
        "      # # text",
        "      # token: ${PEOPLE_CREDENTIALS_TOKEN}",
        '    # required; date; for example "2024-01-31"',
        "    start_date:",
        "    # whole number, at least 1",
        "    size: 10",
        '    # Any text, ${this} too. (text; default "a: b $${c}")',
        '    # note: "a: b $${c}"',
        "    # mapping",
        "    # tunnel:",
        "    #   # required; text",
        "    #   host:",
        "    #   # whole number; default 22",
        "    #   # port: 22",
    ]
    (root / ".env").write_text("PEOPLE_CREDENTIALS_CLIENT_SECRET=s3cr3tpass\n")
    source = smoll.open_project(root).config.sources["people"]
    assert isinstance(source, AirbyteSource)
    credentials = {"auth": "oauth", "client_secret": "s3cr3tpass"}
    assert source.config == {"credentials": credentials, "start_date": None, "size": 10}


def test_a_manifest(tmp_path: Path, wheels: Path) -> None:
    build_wheel(wheels, "airbyte-cdk", "7.0", SOURCE, scripts=["source-declarative-manifest"])
    root = project(tmp_path)
    (root / "connectors").mkdir()
    (root / "connectors/weather.yaml").write_text(MANIFEST)
    added = smoll.add_source("airbyte", "weather", root, connector="./connectors/weather.yaml")
    assert added.variables == ("WEATHER_API_KEY",)
    assert added.block.splitlines()[:6] == [
        "weather:",
        "  kind: airbyte",
        '  connector: "./connectors/weather.yaml"',
        "  config: # all settings: smoll connectors spec weather",
        "    # text",
        "    api_key: ${WEATHER_API_KEY}",
    ]


def test_a_tap_that_says_nothing_of_its_settings(tmp_path: Path, wheels: Path) -> None:
    build_wheel(wheels, "tap-mute", "1.0", MUTE_TAP)
    root = project(tmp_path)
    added = smoll.add_source("singer", "mute", root, tap="tap-mute")
    assert "tap-mute 1.0 does not say what its settings are" in added.block
    assert smoll.open_project(root).config.sources["mute"].kind == "singer"


def test_a_connector_that_cannot_be_installed_leaves_nothing(tmp_path: Path, wheels: Path) -> None:
    root = project(tmp_path)
    with pytest.raises(LoadError, match="new: tap-nowhere cannot be resolved"):
        smoll.add_source("singer", "new", root, tap="tap-nowhere")
    assert text_of(root) == HEAD and not list(root.glob("connectors/*"))


def test_the_command(tmp_path: Path, smoll: object, wheels: Path) -> None:
    root = project(tmp_path)
    done = smoll("--project", str(root), "add", "singer", "tiny", "--tap", "tap-tiny")  # type: ignore[operator]
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Added tiny to smoll.yml, lines 5 to 18.",
        "",
        "Next",
        "  put TINY_TOKEN=... into .env",
        "  look at the lines of tiny in smoll.yml",
        "  smoll check",
        "  smoll run",
    ]
    assert "asking tap-tiny 1.0 for its settings" in done.stderr
    found = text_of(root).splitlines()
    assert found[4].strip() == "tiny:" and len(found) == 18
    done = smoll("--project", str(root), "add", "files", "nyc", "--path", "a.csv", "--json")  # type: ignore[operator]
    told = json.loads(done.stdout)
    assert (told["name"], told["kind"], told["line"], told["missing"]) == ("nyc", "files", 20, [])
    done = smoll("--project", str(root), "add", "files", "nyc")  # type: ignore[operator]
    assert done.returncode == 2 and "there is a source 'nyc' already" in done.stderr
