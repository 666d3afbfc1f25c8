"""The shell that `smoll sql` is on a terminal. Here is what is typed and told; another process answers."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from rich.text import Text

from smoll.cli.answering import Answerer, Place
from smoll.cli.completion import NOTHING_KNOWN, Names, is_complete, statements, suggestions
from smoll.cli.output import VISIBLE, console, count, duration
from smoll.errors import Interrupted, SmollError, UsageError
from smoll.state.layout import Layout

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from smoll.api import Project

_STYLES = ("table", "csv", "json")
_LEAVE = ("quit", "exit")
_HELP = """\
Statements end with ; and may have several lines. Tab completes, arrow up brings back what was asked before.
Ctrl-C ends a query, or drops what is typed. Ctrl-D leaves.

.tables           the tables and views
.describe TABLE   the columns of one
.format STYLE     table, csv or json
.release N        stay on release N; without N follow the current one
.help             this
.quit             leave"""
_ALL_TABLES = """WITH found AS (
        SELECT schema_name, table_name AS name, estimated_size AS "rows" FROM duckdb_tables() WHERE NOT internal
        UNION ALL SELECT schema_name, view_name, NULL FROM duckdb_views() WHERE NOT internal
    )
    SELECT if(schema_name = current_schema(), name, schema_name || '.' || name) AS "table", "rows"
    FROM found ORDER BY 1"""
_MARKED = re.compile(r"(?P<text>.*?)\n\nLINE (?P<line>\d+): (?P<shown>[^\n]*)\n(?P<blank> *)\^", re.DOTALL)


def run_shell(project: Project, place: Place, style: str) -> int:
    """Ask and answer until the user leaves. Returns the exit code.

    Raises
    ------
    SmollError
        There is nothing to ask: no release (of this number), or no warehouse.
    """
    with closing(Answerer(project)) as answerer:
        answerer.start()  # it imports DuckDB while this process gets ready for the first key
        shell = _Shell(project, answerer, place, style if style in _STYLES else "table")
        session = _session(project, lambda: shell.names)
        shell.names = answerer.names(place)
        signal.signal(signal.SIGTERM, _leave)
        print(f"{shell.title()}. A statement ends with ; and .help tells the rest.")
        while True:
            try:
                text = session.prompt(shell.prompt())
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            if text.strip().strip(".;").rstrip().lower() in _LEAVE:
                return 0
            shell.do(text.strip())


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(Interrupted.exit_code)


@dataclass
class _Shell:
    project: Project
    answerer: Answerer
    place: Place
    style: str
    names: Names = NOTHING_KNOWN
    number: int | None = None

    def prompt(self) -> str:
        """``flights 7> ``: the project and the release that the next statement asks."""
        return f"{self.project.config.name} {'raw' if self.place.raw else self._number()}> "

    def title(self) -> str:
        """What is asked, in words."""
        if self.place.raw:
            return "The working warehouse"
        return f"Release {self._number()}" + ("" if self.place.release is not None else ", the current one")

    def _number(self) -> int | None:
        if self.place.release is not None:
            return self.place.release
        with suppress(SmollError):  # the next statement says what is wrong
            return self.project.current()
        return None

    def do(self, text: str) -> None:
        """Do what was typed: a word with a dot before it, or statements, of which an error stops the rest."""
        try:
            if text.startswith("."):
                self._command(*(text.rstrip("; ").split(None, 1)))
                return
            if text.lower() == "help":
                print(_HELP)
                return
            for line, statement in statements(text):
                try:
                    self._answer(statement)
                except SmollError as error:
                    _tell(f"Error: {_in_one_line(error.message, statement, line)}", "red")
                    return
        except KeyboardInterrupt:
            _tell("Interrupted.", "red")
        except SmollError as error:
            _tell(f"Error: {error.message} {error.hint}".rstrip(), "red")

    def _answer(self, statement: str, style: str = "") -> None:
        began = time.monotonic()
        answered = self.answerer.answer(self.place, statement, style or self.style)
        took = time.monotonic() - began
        rows = "" if answered.rows is None else f"{count(answered.rows, 'row')}, "
        _tell(rows + (f"{took:.2f} s" if took < 1 else duration(took)), "dim")
        if answered.rows is None or answered.release != self.number:
            self.number = answered.release
            self._learn()

    def _learn(self) -> None:
        """Ask for the names that Tab offers."""
        with suppress(SmollError):
            self.names = self.answerer.names(self.place)

    def _command(self, name: str, word: str = "") -> None:
        if name == ".tables":
            self._answer(_ALL_TABLES, "table")
        elif name in (".describe", ".desc") and word:
            self._answer(f"DESCRIBE {word}", "table")
        elif name == ".format" and word in _STYLES:
            self.style = word
        elif name == ".release" and (word.isdecimal() or not word):
            self._go(Place(release=int(word) if word else None))
        elif name == ".help":
            print(_HELP)
        else:
            raise UsageError(f"{' '.join([name, word]).strip()} is not known.", hint=".help lists what is.")

    def _go(self, place: Place) -> None:
        self.names = self.answerer.names(place)
        self.place = place
        print(f"{self.title()}.")


def _tell(text: str, style: str) -> None:
    console(stderr=True).print(Text(text.translate(VISIBLE), style))


def _in_one_line(message: str, statement: str, line: int) -> str:
    """DuckDB's message with the place in numbers: ``line 2, column 8: Binder Error: ...``."""
    marked = _MARKED.match(message)
    if not marked:
        return " ".join(message.split())
    text, within = " ".join(marked["text"].split()), int(marked["line"])
    shown, column = marked["shown"], len(marked["blank"]) - len(f"LINE {within}: ")
    if shown.startswith("..."):  # of a long line DuckDB shows a part
        shown, column = shown[3:], column - 3
    whole = statement.split("\n")[within - 1 : within]
    column += max(whole[0].find(shown.removesuffix("...")), 0) if whole else 0
    return f"line {line + within}, column {column + 1}: {text}"


# --- what is typed


def _session(project: Project, names: Callable[[], Names]) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.lexers import PygmentsLexer
    from pygments.lexers.sql import SqlLexer

    return PromptSession(
        history=_history(project),
        completer=_completer(names),
        lexer=PygmentsLexer(SqlLexer),
        key_bindings=_keys(),
        multiline=True,
        prompt_continuation=lambda width, *_: " " * (width - 2) + "> ",
        reserve_space_for_menu=6,
    )


def _history(project: Project) -> History:
    """What was typed in this project, in a file for its owner alone; only here and now where that cannot be."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Kept(FileHistory):
        def store_string(self, string: str) -> None:
            with suppress(OSError):  # a full disk is no reason to stop
                super().store_string(string)

    path = Layout(project.config.root).sql_history
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.fchmod(handle, 0o600)
        os.close(handle)
    except OSError:
        return InMemoryHistory()
    return Kept(path)


def _completer(names: Callable[[], Names]) -> Completer:
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class Sql(Completer):
        def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
            if document.text.lstrip().startswith("."):
                return
            typed, found = suggestions(document.text, document.cursor_position, names())
            if typed or event.completion_requested or document.char_before_cursor == ".":
                yield from (Completion(each.text, -typed, display_meta=each.kind) for each in found)

    return Sql()


def _keys() -> KeyBindings:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.filters import completion_is_selected
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter", filter=~completion_is_selected)
    def _enter(event: KeyPressEvent) -> None:
        """Go, or begin another line."""
        buffer = event.current_buffer
        if is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("tab")
    def _complete(event: KeyPressEvent) -> None:
        """Take the only name that fits, at once; else list them, and go to the next one."""
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_next()
            return
        fitting = list(buffer.completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
        if len(fitting) == 1:
            buffer.apply_completion(fitting[0])
        elif buffer.complete_state:
            buffer.complete_next()
        else:
            buffer.start_completion(insert_common_part=True)

    @keys.add("enter", filter=completion_is_selected)
    def _take(event: KeyPressEvent) -> None:
        """Take what is marked in the list."""
        event.current_buffer.complete_state = None

    return keys
