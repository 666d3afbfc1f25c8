"""The queries of a page -> their answers, bounded in rows, bytes and the length of a value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smoll.dashboards.parse import Page, Query, Table, Values
from smoll.dashboards.reads import Reads, read_query
from smoll.errors import Problem
from smoll.transform.personal import without_values

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROWS = 10_000
"""Of one query. Vega draws so many marks without delay, and nobody reads more."""
BYTES = 8_000_000
"""Of the answers of one page."""
LONGEST = 2_000
"""Characters of one value."""
NOBODY: Mapping[str, Set[str]] = {}
"""No column of any table is personal."""
_CELLS_AT_ONCE = 10_000
_LINE = re.compile(r"\n\s*LINE (\d+):.*", re.DOTALL)
_NUMBERS = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)|FLOAT|DOUBLE|DECIMAL\(.*\)|BIGNUM|VARINT")
_NESTED = re.compile(r".*\]|(STRUCT|MAP|UNION)\(.*|JSON|VARIANT", re.DOTALL)


@dataclass(frozen=True)
class Column:
    """A column of an answer. ``kind`` is number, boolean, date, timestamp, json (what is nested) or text.

    ``scale`` are the digits behind the point of a DECIMAL; None for all other types.
    """

    name: str
    type: str

    @property
    def kind(self) -> str:
        if _NUMBERS.fullmatch(self.type):
            return "number"
        if self.type == "BOOLEAN" or self.type == "DATE":
            return self.type.lower()
        if self.type.startswith("TIMESTAMP"):
            return "timestamp"
        return "json" if _NESTED.fullmatch(self.type) else "text"

    @property
    def scale(self) -> int | None:
        found = re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", self.type)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Answer:
    """What one query gave. Values are as DuckDB writes them, None is NULL.

    ``capped``: there are more rows. ``cut``: some value was too long, and ends with an ellipsis.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str | None, ...], ...]
    capped: bool = False
    cut: bool = False

    def position(self, name: str) -> int | None:
        return next((n for n, column in enumerate(self.columns) if column.name == name), None)

    def first(self, name: str) -> tuple[str | None, Column] | None:
        """The value of a column in the first row; None where there is no row."""
        position = self.position(name)
        if position is None or not self.rows:
            return None
        return self.rows[0][position], self.columns[position]


@dataclass(frozen=True)
class Answers:
    """The answers of a page by the names of its queries; a query that failed has none.

    ``before`` are the first rows in the release that readers see. ``reads`` are the tables that the queries name,
    written ``schema.table``. ``warnings`` are what a person should know, though the page can be shown.
    """

    by_name: Mapping[str, Answer] = field(default_factory=dict)
    before: Mapping[str, Answer] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()


def answer(
    page: Page,
    connection: DuckDBPyConnection,
    previous: DuckDBPyConnection | None = None,
    *,
    personal: Mapping[str, Set[str]] = NOBODY,
    later: Set[str] = frozenset(),
) -> tuple[Answers, tuple[Problem, ...]]:
    """Run the queries of a page, and see whether they have the columns that the page names.

    Parameters
    ----------
    connection
        To the release that the page is made for, read-only and sandboxed.
    previous
        To the release that readers see now; its numbers are what values are compared with.
    personal
        The columns of each table (``schema.table``) that no page may show; all in lower case.
    later
        Tables that are not built yet, as ``schema.table`` in lower case: a query that reads one is not looked at.
    """
    from smoll.dashboards.charts import chart_problems

    asking = _Asking(page, connection, personal, later)
    for query in page.queries:
        asking.ask(query)
    compared = {value.query for block in page.blocks if isinstance(block, Values) for value in block.values}
    before = {name: found for name in sorted(compared) if (found := _first_row(page, name, previous)) is not None}
    problems = [
        *asking.problems,
        *_missing_columns(page, asking.found),
        *chart_problems(page, asking.found),
    ]
    answers = Answers(asking.found, before, tuple(sorted(asking.reads)), tuple(asking.all_warnings()))
    return answers, tuple(sorted(problems, key=lambda problem: problem.line))


class _Asking:
    """What the queries of one page have given so far."""

    def __init__(
        self, page: Page, connection: DuckDBPyConnection, personal: Mapping[str, Set[str]], later: Set[str]
    ) -> None:
        self._page = page
        self._connection = connection
        self._personal = personal
        self._later = later
        self._room = BYTES
        self._waiting: list[tuple[Query, list[str]]] = []
        self.found: dict[str, Answer] = {}
        self.reads: set[str] = set()
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def ask(self, query: Query) -> None:
        import duckdb

        if said := _no_query(query):
            self.problems.append(Problem(self._page.file, *said))
            return
        reads = read_query(self._connection, query.sql)
        self.reads |= reads.tables
        try:
            columns = _columns(self._connection, query)
            if not self._shows_personal(query, reads, columns):
                answer, used = _rows(self._connection, query, columns, self._room)
                self._room -= used
                self.found[query.name] = answer
                self._warn(query, answer)
        except duckdb.InterruptException:
            raise
        except duckdb.CatalogException as error:
            waiting = sorted(name for name in reads.tables if name.lower() in self._later)
            if waiting:
                self._waiting.append((query, waiting))
            else:
                self.problems.append(self._failed(query, error))
        except duckdb.Error as error:
            self.problems.append(self._failed(query, error))

    def all_warnings(self) -> Iterator[Problem]:
        yield from self.warnings
        if self._waiting:
            queries, tables = _list([f"`{each.name}`" for each, _ in self._waiting]), set[str]()
            names = _list(sorted(tables.union(*(names for _, names in self._waiting))))
            line = self._waiting[0][0].line
            message = f"{queries} read what is not built yet: {names}"
            yield Problem(self._page.file, line, 1, message, "the release looks at them")

    def _failed(self, query: Query, error: Exception) -> Problem:
        import duckdb

        line, message = _where_and_what(query, error, quotes=not any(self._personal.values()))
        hint = ""
        if "{{" in query.sql:
            hint = "dbt's {{ }} is not known here: name released tables as schema.table"
        elif isinstance(error, duckdb.CatalogException) and "Table with name" in message:
            message = re.sub(r' Did you mean "[^"]*"\?$', "", message)  # DuckDB means tables of its own
            hint = _some(self._connection)
        return Problem(self._page.file, line, 1, f"the query `{query.name}` fails: {message}", hint)

    def _shows_personal(self, query: Query, reads: Reads, columns: Sequence[Column]) -> bool:
        names, others = reads.personal(self._personal)
        if not reads.tables:  # whatever it reads: it may be any of them
            names = frozenset[str]().union(*self._personal.values())
        shown = [column.name for column in columns if column.name.lower() in names]
        for name in (*shown, *sorted(others)):
            made = "gives" if name in shown else "makes something of"
            message = f"the query `{query.name}` {made} the personal column {name}"
            hint = "a portal shows no column with `meta: {pii: true}`; count it, or leave it out"
            self.problems.append(Problem(self._page.file, query.line, 1, message, hint))
        return bool(shown or others)

    def _warn(self, query: Query, answer: Answer) -> None:
        if answer.capped:
            message = f"the query `{query.name}` gives more than {len(answer.rows):,} rows"
            hint = "a table shows the first of them, a chart none; group or filter in the query"
            self.warnings.append(Problem(self._page.file, query.line, 1, message, hint))
        if answer.cut:
            message = f"the query `{query.name}` has values of more than {LONGEST:,} characters, which are cut"
            self.warnings.append(Problem(self._page.file, query.line, 1, message, "use left(column, 100)"))


def _no_query(query: Query) -> tuple[int, int, str, str] | None:
    """Line, column, message and hint, where it is not exactly one SELECT. Only such text is put in parentheses."""
    import duckdb

    try:
        statements = duckdb.extract_statements(query.sql)
    except duckdb.Error as error:
        hint = "dbt's {{ }} is not known here: name released tables as schema.table" if "{{" in query.sql else ""
        line, message = _where_and_what(query, error, quotes=True, first=0)
        return line, 1, f"the query `{query.name}` cannot be read: {message}", hint
    if len(statements) == 1 and statements[0].type.name == "SELECT":
        return None
    said = f"the query `{query.name}` has {len(statements)} statements" if len(statements) > 1 else ""
    hint = "write one SELECT; PIVOT takes its values by IN (...)"
    return query.line, 1, said or f"the query `{query.name}` is no SELECT", hint


def _where_and_what(query: Query, error: Exception, *, quotes: bool, first: int = 1) -> tuple[int, str]:
    """The line of the file, and what DuckDB says. ``first`` lines of what was run stand before the query's own."""
    text = str(error)
    found = _LINE.search(text)
    last = query.line + query.sql.rstrip().count("\n") + 1
    line = min(max(query.line + int(found[1]) - first, query.line), last) if found else query.line
    line = last if "syntax error at end of input" in text else line
    message = " ".join(_LINE.sub("", text if quotes else without_values(text)).split())
    return line, re.sub(r"^(Catalog|Binder|Parser) Error: ", "", message)[:500]


def _inner(query: Query) -> str:
    """The query as a part of another one, without semicolons behind it; a comment at its end ends with its line."""
    import duckdb

    text = query.sql.encode()
    tokens = [at for at, kind in duckdb.tokenize(query.sql) if kind != duckdb.token_type.comment]
    while tokens and text[tokens[-1] : tokens[-1] + 1] == b";":
        text = text[: tokens.pop()]
    return f"(\n{text.decode()}\n)"


def _columns(connection: DuckDBPyConnection, query: Query) -> tuple[Column, ...]:
    rows = connection.execute(f"DESCRIBE FROM {_inner(query)}").fetchall()
    return tuple(Column(row[0], row[1]) for row in rows)


def _rows(connection: DuckDBPyConnection, query: Query, columns: Sequence[Column], room: int) -> tuple[Answer, int]:
    """Fetch until a limit is met. DuckDB gives what it has as text, cut, so that no value is ever here in full."""
    texts = ", ".join(f"left({_text_of(column, n)}, {LONGEST + 1})" for n, column in enumerate(columns, 1))
    cursor = connection.execute(f"SELECT {texts} FROM {_inner(query)} LIMIT {ROWS + 1}")
    rows: list[tuple[str | None, ...]] = []
    used, cut, capped = 0, False, False
    while not capped and (batch := cursor.fetchmany(max(1, _CELLS_AT_ONCE // len(columns)))):
        for row in batch:
            used += sum(len(value) + 3 for value in row if value is not None) + 5 * row.count(None)
            if len(rows) == ROWS or used > room:
                capped = True
                break
            if any(value is not None and len(value) > LONGEST for value in row):
                row = tuple(f"{value[:LONGEST]}…" if value and len(value) > LONGEST else value for value in row)
                cut = True
            rows.append(row)
    return Answer(tuple(columns), tuple(rows), capped, cut), used


def _text_of(column: Column, position: int) -> str:
    if column.kind == "json":
        return f"to_json(#{position})::VARCHAR"
    text = f"#{position}::VARCHAR"
    if column.scale is not None:  # DuckDB writes .5 where a type has no whole digits
        return f"regexp_replace({text}, '^(-?)[.]', '\\10.')"
    return f"regexp_replace({text}, '[.]0$', '')" if column.type in ("FLOAT", "DOUBLE") else text


def _first_row(page: Page, name: str, previous: DuckDBPyConnection | None) -> Answer | None:
    """What a query gave in the release before; None where it does not fit that one."""
    import duckdb

    query = next((query for query in page.queries if query.name == name), None)
    if previous is None or query is None or _no_query(query):
        return None
    try:
        columns = _columns(previous, query)
        texts = ", ".join(f"left({_text_of(column, n)}, {LONGEST})" for n, column in enumerate(columns, 1))
        rows = previous.execute(f"SELECT {texts} FROM {_inner(query)} LIMIT 1").fetchall()
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        return None
    return Answer(columns, tuple(rows))


def _missing_columns(page: Page, found: Mapping[str, Answer]) -> Iterator[Problem]:
    """Columns that tables and values name, and that their queries do not give."""
    named: list[tuple[str, str, int]] = [(value.query, value.column, value.line) for value in page.inline]
    for block in page.blocks:
        if isinstance(block, Table):
            named += [(block.query, choice.column, block.line) for choice in block.choices or ()]
        elif isinstance(block, Values):
            named += [(value.query, value.column, value.line) for value in block.values]
    for query, column, line in named:
        if query in found and found[query].position(column) is None:
            yield Problem(page.file, line, 1, *no_column(column, query, [each.name for each in found[query].columns]))


def no_column(column: str, query: str, columns: Sequence[str]) -> tuple[str, str]:
    """What to say of a column that a query does not give, and what helps."""
    close = difflib.get_close_matches(column, columns, 1) or [c for c in columns if c.lower() == column.lower()]
    hint = f"did you mean `{close[0]}`?" if close else f"it gives {_list(columns)}"
    return f"the query `{query}` gives no column `{column}`", hint


def _list(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _some(connection: DuckDBPyConnection) -> str:
    names = connection.execute(
        """SELECT DISTINCT schema_name || '.' || name FROM (
            SELECT database_name, schema_name, table_name AS name FROM duckdb_tables() WHERE NOT internal
            UNION ALL SELECT database_name, schema_name, view_name FROM duckdb_views() WHERE NOT internal
        ) WHERE database_name = current_database() ORDER BY 1"""
    ).fetchall()
    return f"the release has {_list([row[0] for row in names])}" if names else ""
