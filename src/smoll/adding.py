"""``smoll add``: a new source in ``smoll.yml``, commented, from what its connector says of itself."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from smoll.connectors import airbyte, environment, singer
from smoll.connectors.settings import Setting, read_settings
from smoll.errors import ConfigError, Problem, UsageError
from smoll.project import FILE, AirbyteSource, SingerSource, find_root, load_config
from smoll.project.document import parse
from smoll.project.insert import insert_source
from smoll.state.layout import Layout, write_atomically

KINDS = ("files", "sql", "rest", "dlt", "singer", "airbyte")
_OPTIONS = {
    "path": ("files",),
    "url": ("sql", "rest"),
    "source": ("dlt",),
    "tap": ("singer",),
    "connector": ("airbyte",),
    "executable": ("singer", "airbyte"),
    "python": ("singer", "airbyte"),
}
_WIDTH = 100
_UNSET = re.compile(r"the environment variable (\w+) is not set")
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./@+=-]*( [A-Za-z0-9_./@+=-]+)*")
# Every tap that Meltano's SDK made has these; what they do is dbt's work here.
_OF_THE_SDK = re.compile(r"(stream_maps|stream_map_config|faker_config|batch_config|flattening_.*)$")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"}


@dataclass(frozen=True)
class Added:
    """What `add_source` wrote. ``variables`` are those that the environment or ``.env`` has to have now."""

    name: str
    kind: str
    file: Path
    line: int
    block: str
    connector: str = ""
    variables: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def add_source(
    kind: str,
    name: str,
    path: Path | None = None,
    *,
    paths: Sequence[str] = (),
    tell: Callable[[str], None] = lambda line: None,
    **options: str | None,
) -> Added:
    """Write a commented block for a new source into ``smoll.yml``; everything else in the file stays as it is.

    Parameters
    ----------
    kind
        The kind of the source.
    name
        Its name.
    path
        Where the project is, as for ``smoll.open_project``.
    paths
        The files, for kind ``files``.
    tell
        Gets one line for people where something takes time.
    options
        ``url`` (sql, rest), ``source`` (dlt), ``tap`` (singer), ``connector`` (airbyte), ``executable`` and ``python``
        (both of these).

    Raises
    ------
    UsageError
        There is no project, it has a source of this name, an option is missing or is not for this kind, or
        ``smoll.yml`` is written in a way that cannot be added to.
    ConfigError
        ``smoll.yml`` is wrong, before or afterwards; it is as it was.
    LoadError
        The connector cannot be installed, or does not say what its settings are.
    """
    root = find_root(path)
    given = {key: value for key, value in {**options, "path": ", ".join(paths)}.items() if value}
    _check_options(kind, name, given)
    _refuse_broken(root)
    file = root / FILE
    content = file.read_bytes().decode("utf-8-sig")
    insert_source(content, FILE, name, [f"{_key(name)}: {{}}"])  # before anything is installed
    block = _Block(name)
    lock = environment.lock_file(name, Layout(root))
    had_lock = lock.exists()
    try:
        label = _WRITERS[kind](block, root, {**given, "paths": list(paths)}, tell)
        changed = insert_source(content, FILE, name, block.lines)
        _replace(root, file, changed)
    except BaseException:
        if not had_lock:
            lock.unlink(missing_ok=True)
        raise
    line = parse(changed, FILE).key_mark(("sources", name))[0]
    missing = tuple(variable for variable in block.variables if variable in _unset(root))
    return Added(name, kind, file, line, "\n".join(block.lines), label, tuple(block.variables), missing)


def _check_options(kind: str, name: str, given: Mapping[str, str]) -> None:
    if kind not in KINDS:
        raise UsageError(f"There is no kind {kind!r}.", hint=f"There are: {', '.join(KINDS)}.")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise UsageError(f"A source cannot be named {name!r}.", hint="Use letters, digits and _; the first a letter.")
    wrong = next((option for option in given if kind not in _OPTIONS.get(option, ())), None)
    if wrong is not None:
        fitting = " and ".join(_OPTIONS.get(wrong, ()))
        raise UsageError(f"--{wrong} is not for kind {kind}.", hint=f"It is for {fitting}." if fitting else "")
    if kind != "sql" and any(re.search(r"://[^/\s]*@", value) for value in given.values()):
        raise UsageError(
            "The URL holds a login, which would go into smoll.yml.",
            hint="Write ${A_VARIABLE} for it, and set it in .env.",
        )
    needed = {"singer": "tap", "airbyte": "connector"}.get(kind)
    if needed and needed not in given:
        example = "tap-github" if kind == "singer" else "airbyte-source-faker"
        raise UsageError(f"Kind {kind} needs --{needed}.", hint=f"smoll add {kind} {name} --{needed} {example}")


# --- the file -------------------------------------------------------------------------------------------------------


def _refuse_broken(root: Path) -> None:
    """Raise what is wrong with the project file, but for variables that nobody has set yet."""
    if problems := [problem for problem in _problems(root) if not _UNSET.fullmatch(problem.message)]:
        raise ConfigError(problems)


def _unset(root: Path) -> set[str]:
    """The variables that the project file names and nobody has set."""
    found = (_UNSET.fullmatch(problem.message) for problem in _problems(root))
    return {match[1] for match in found if match}


def _problems(root: Path) -> tuple[Problem, ...]:
    try:
        load_config(root)
    except ConfigError as error:
        return error.problems
    return ()


def _replace(root: Path, file: Path, text: str) -> None:
    """Write the file if the project loads with it; else it is as it was."""
    real = file.resolve()
    before, mode = real.read_bytes(), real.stat().st_mode & 0o7777
    mark = "\ufeff" if before.startswith(b"\xef\xbb\xbf") else ""
    try:
        write_atomically(real, mark + text)
        real.chmod(mode)
        _refuse_broken(root)
    except BaseException:
        real.write_bytes(before)
        raise


# --- what is written ------------------------------------------------------------------------------------------------


class _Block:
    """The lines of a source, and the variables that they name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines = [f"{_key(name)}:"]
        self.variables: list[str] = []

    def add(self, *lines: str) -> None:
        self.lines += [f"  {line}".rstrip() for line in lines]

    def variable(self, *path: str, live: bool = True) -> str:
        """``${NAME_PASSWORD}``."""
        variable = re.sub(r"\W+", "_", "_".join((self.name, *path)), flags=re.ASCII).upper()
        if live and variable not in self.variables:
            self.variables.append(variable)
        return f"${{{variable}}}"


def _files(block: _Block, root: Path, given: Mapping[str, Any], tell: Callable[[str], None]) -> str:
    block.add("kind: files", "streams:")
    for path in given["paths"] or [f"data/{_stem(block.name) or 'files'}.csv"]:
        block.add(
            f"  {_key(_stem(path) or block.name)}:",
            f"    path: {_scalar(path)} # a file, a pattern (data/*.csv), or an https://, s3://, gs:// or az:// URL",
        )
    block.add(
        "    # mode: append # each file once, and a changed one again; default: all of them with every run",
        "    # mode: merge # a row replaces the row with the same key",
        "    # key: id",
        "    # on_bad_row: quarantine # rows that cannot be loaded go to a table of their own",
    )
    return ""


def _stem(path: str) -> str:
    name = PurePosixPath(re.sub(r"[?#].*", "", path)).name.split(".")[0]
    return re.sub(r"[^\w-]+", "", name).strip("_-")


def _sql(block: _Block, root: Path, given: Mapping[str, Any], tell: Callable[[str], None]) -> str:
    url = str(given.get("url", ""))
    # A file holds no password. Any other URL may, so it does not get into the project file.
    value = _scalar(url) if url.startswith(("sqlite:", "${")) else block.variable("url")
    block.add(
        "kind: sql",
        f"url: {value} # postgresql://user:password@host/database, mysql://..., sqlite:///file.db",
        "streams:",
        '  "*": {} # every table, as a whole with every run',
        "  # orders: {mode: merge, key: id, cursor: updated_at} # only what is new",
    )
    return ""


def _rest(block: _Block, root: Path, given: Mapping[str, Any], tell: Callable[[str], None]) -> str:
    block.add(
        "kind: rest",
        "config: # dlt's declarative REST configuration, unchanged",
        "  client:",
        f"    base_url: {_scalar(str(given.get('url') or 'https://api.example.com'))}",
        f'    # auth: {{type: bearer, token: "{block.variable("token", live=False)}"}}',
        "    # paginator: {type: page_number, base_page: 1}",
        "  resources: # each one is a stream",
        "    - name: items",
        "      endpoint: {path: items}",
        "      # primary_key: id",
        "# streams:",
        "#   items: {mode: merge, key: id}",
    )
    return ""


def _dlt(block: _Block, root: Path, given: Mapping[str, Any], tell: Callable[[str], None]) -> str:
    function = str(given.get("source") or f"my_sources.{_stem(block.name) or 'source'}")
    block.add(
        "kind: dlt",
        f"source: {_scalar(function)}"
        " # module.function: a dlt source or resource, in the project's folder or a package",
        "# config: # the arguments of the function",
        f"#   api_key: {block.variable('api_key', live=False)}",
        "# streams:",
        '#   "*": {} # every resource; default',
        "#   deals: {mode: merge, key: id}",
    )
    return ""


def _program(block: _Block, root: Path, given: Mapping[str, Any], tell: Callable[[str], None]) -> str:
    """A Singer tap or an Airbyte connector: installed, and asked for its settings."""
    kind, key = ("singer", "tap") if "tap" in given else ("airbyte", "connector")
    options = {name: given[name] for name in (key, "executable", "python") if name in given}
    try:
        model = SingerSource if kind == "singer" else AirbyteSource
        source = model.model_validate({"kind": kind, **options})
    except ValidationError as error:
        raise UsageError(f"{block.name}: {error.errors()[0]['msg']}.") from None
    program = environment.find_program(block.name, source, root, tell)
    tell(f"{block.name}: asking {program.label} for its settings")
    schema = _schema(block.name, source, root)
    block.add(f"kind: {kind}", *(f"{name}: {_scalar(value)}" for name, value in options.items()))
    settings = [
        setting
        for setting in (read_settings(schema) if schema is not None else ())
        if setting.required or kind != "singer" or not _OF_THE_SDK.match(setting.name)
    ]
    if not settings:
        why = "does not say what its settings are" if schema is None else "has no settings"
        block.add(f"# {program.label} {why}; see its own documentation.", "config: {}")
    else:
        lines = [line for setting in settings for line in _setting(block, setting)]
        needed = any(setting.required for setting in settings)
        nothing = "" if needed else "nothing is required; "
        block.add(f"config: # {nothing}all settings: smoll connectors spec {block.name}", *_indented(lines))
    block.add(
        '# select: [stream, "order*", stream.field]'
        f" # default: everything; `smoll connectors discover {block.name}` lists it",
        "# streams:",
        '#   "*": {}',
        "#   stream: {mode: merge, key: id}",
    )
    return program.label


def _schema(name: str, source: SingerSource | AirbyteSource, root: Path) -> Mapping[str, Any] | None:
    if isinstance(source, AirbyteSource):
        return airbyte.read_spec(name, source, root)
    about = singer.read_about(name, source, root)
    settings = about.get("settings") if about else None
    return settings if isinstance(settings, Mapping) else None


_WRITERS: dict[str, Callable[[_Block, Path, Mapping[str, Any], Callable[[str], None]], str]] = {
    "files": _files,
    "sql": _sql,
    "rest": _rest,
    "dlt": _dlt,
    "singer": _program,
    "airbyte": _program,
}


def _setting(block: _Block, setting: Setting, above: tuple[str, ...] = (), *, live: bool = True) -> list[str]:
    """The lines of one setting: its comment, and it; commented out where it is not required.

    ``live``: what is above it is not commented out.
    """
    path, live = (*above, setting.name), live and setting.required
    key, lines = _key(setting.name), list[str]()
    if setting.variants:
        lines.append(f"{key}:")
        for number, (title, parts) in enumerate(setting.variants):
            # The first one is written, the others are there to be chosen instead.
            inner = [line for part in parts for line in _setting(block, part, path, live=live and not number)]
            lines += [f"  # {'or ' if number else ''}{title}:", *_indented(inner if not number else _commented(inner))]
    elif setting.parts:
        is_empty = setting.required and not any(part.required for part in setting.parts)
        lines.append(f"{key}:" + (" {} # remove {} to set one of these" if is_empty else ""))
        for part in setting.parts:
            lines += _indented(_setting(block, part, path, live=live))
    else:
        lines.append(f"{key}: {_value(block, setting, path, live=live)}".rstrip())
    return [*_comment(setting), *(lines if setting.required else _commented(lines))]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _commented(lines: Iterable[str]) -> list[str]:
    return [f"# {line}" for line in lines]


def _comment(setting: Setting) -> list[str]:
    """What the setting is for, its type, the values it may have, and its default."""
    facts = ["required"] if setting.required and _shown(setting) is None and not setting.secret else []
    facts += [setting.type] if setting.type and len(setting.choices) != 1 else []
    if len(setting.choices) > 1:
        facts.append(f"one of {', '.join(map(_literal, setting.choices))}")
    if not setting.required and setting.default is not None:
        facts.append(f"default {_literal(setting.default)}")
    elif setting.examples and setting.default is None:
        facts.append(f"for example {_literal(setting.examples[0])}")
    known = "; ".join(facts)
    text = f"{setting.description} ({known})" if setting.description and known else setting.description or known
    printable = "".join(character if character.isprintable() else " " for character in text)
    return _commented(textwrap.wrap(printable.strip(), _WIDTH, break_long_words=False, break_on_hyphens=False))


def _shown(setting: Setting) -> Any:
    return setting.choices[0] if len(setting.choices) == 1 else setting.default


def _value(block: _Block, setting: Setting, path: tuple[str, ...], *, live: bool) -> str:
    if setting.secret:
        return block.variable(*path, live=live)
    shown = _shown(setting)
    return "" if shown is None else _literal(shown)


def _key(name: str) -> str:
    return _scalar(name)


def _scalar(text: str) -> str:
    """Text as YAML has it, quoted where it must be."""
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS and not text.startswith(".")
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _literal(value: Any) -> str:
    """A value of a connector's as YAML has it. What looks like a variable is none."""
    if isinstance(value, str):
        return _scalar(value.replace("${", "$${"))
    return json.dumps(value, ensure_ascii=False).replace("${", "$${")
