"""Writing a site: pages from templates, data that scripts read, and everything synced to the disk."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.model import to_json
from smoll.state.layout import fsync_path

if TYPE_CHECKING:
    from jinja2 import Environment

_LONGEST_SLUG = 80
_LONGEST_MARKED = 50_000
_SQL_MARKS = {
    "Comment.Preproc": "sql-word",  # {{ and }}
    "Comment": "sql-note",
    "Keyword": "sql-word",
    "Literal.String.Symbol": "",  # a quoted name
    "Literal": "sql-value",
}
_NOTHING, _MINUS = "–", "−"  # noqa: RUF001


@dataclass(frozen=True)
class Site:
    """A folder that becomes the portal, and what each of its pages says of the project.

    ``shared`` goes to every template, ``charted`` are the pages that need Vega. Pages link relatively:
    each knows its ``root``, the way back to the folder.
    """

    folder: Path
    shared: Mapping[str, Any] = field(default_factory=dict)
    charted: list[str] = field(default_factory=list)

    def page(
        self,
        path: str,
        template: str,
        *,
        title: str,
        section: str,
        scripts: Sequence[str] = (),
        data: Sequence[str] = (),
        charts: bool = False,
        **context: Any,
    ) -> None:
        """Write one page.

        Parameters
        ----------
        path
            Below the site, as ``catalog/main.orders.html``.
        template
            The name of a template in ``smoll/portal/templates`` that extends ``base.html``.
        section
            Which part of the navigation it belongs to: ``overview``, ``dashboards``, ``catalog``, ``lineage``,
            ``checks``.
        scripts
            Files of ``assets/`` that it needs beside those of every page.
        data
            Names of what `data` has written, which it loads before its scripts.
        charts
            Whether it needs Vega.
        """
        root = "../" * path.count("/")
        about = {"title": title, "section": section, "scripts": scripts, "data_files": data, "charts": charts}
        text = environment().get_template(template).render({**self.shared, **about, **context, "root": root})
        self.write(path, text)
        if charts:
            self.charted.append(path)

    def data(self, name: str, content: Any) -> str:
        """Write what scripts read as ``window.smollData[name]``: a file of JSON in a script, as a browser that shows a
        page from the disk reads no other. Returns `name`.
        """
        text = json.dumps(to_json(content), ensure_ascii=False, separators=(",", ":"), default=str)
        self.write(f"data/{name}.js", f"(window.smollData ??= {{}})[{json.dumps(name)}] = {text};\n")
        return name

    def write(self, path: str, text: str) -> None:
        """Write any file of the site."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)


def sync_tree(folder: Path) -> None:
    """Make all files below a folder survive a power cut. All are written by then, so the disk takes them in one go."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            fsync_path(Path(place) / name)
        fsync_path(Path(place))


def slugs(names: Mapping[str, str]) -> dict[str, str]:
    """A name for a file for each id: safe in paths and URLs, its own whatever the case.

    Parameters
    ----------
    names
        What each id is called.
    """
    plain = {id: _plain(name) for id, name in names.items()}
    seen: dict[str, int] = {}
    for slug in plain.values():
        seen[slug] = seen.get(slug, 0) + 1
    return {
        id: slug if seen[slug] == 1 and slug == names[id].lower() else f"{slug}-{_mark(f'{names[id]} {id}')}"
        for id, slug in plain.items()
    }


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")[:_LONGEST_SLUG] or "table"


def _mark(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


# --- templates ------------------------------------------------------------------------------------------------------


@cache
def environment() -> Environment:
    """The templates, which escape whatever goes into them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("smoll.portal"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(_filters())
    return made


def _filters() -> dict[str, Callable[..., Any]]:
    return {
        "count": count,
        "size": size,
        "share": share,
        "duration": duration,
        "moment": moment,
        "plural": plural,
        "markdown": markdown,
        "value": value,
        "sql": sql,
        "change": change,
        "trusted": trusted,
    }


def count(number: float | None) -> str:
    """A number of things: ``336,776``."""
    return _NOTHING if number is None else f"{number:,.0f}"


def plural(number: int, word: str, many: str = "") -> str:
    """``1 table``, ``2 tables``."""
    return f"{number:,} {word if number == 1 else many or word + 's'}"


def change(number: int) -> str:
    """A difference with its sign: ``+12``, ``±0``; with a real minus."""
    return f"{'+' if number > 0 else _MINUS if number < 0 else '±'}{abs(number):,}"


def size(number: int) -> str:
    """Bytes in the unit that suits: ``14.2 MB``."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def share(part: float) -> str:
    """A part of the whole: ``0``, ``< 0.1%``, ``12.5%``."""
    if part <= 0:
        return "0%"
    if part < 0.001:
        return "< 0.1%"
    return "> 99.9%" if 0.999 < part < 1 else f"{part:.1%}".replace(".0%", "%")


def duration(seconds: float) -> str:
    """``0.4 s``, ``22 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def value(number: Any) -> str:
    """A value of a profile, short enough for a cell."""
    if number is None:
        return _NOTHING
    if isinstance(number, bool):
        return str(number).lower()
    if isinstance(number, int):
        return f"{number:,}" if abs(number) >= 10_000 else str(number)
    if isinstance(number, float):
        if number == int(number) and abs(number) < 1e15:
            return value(int(number))
        return f"{number:,.4g}" if abs(number) < 10_000 else f"{number:,.0f}" if abs(number) < 1e15 else f"{number:.4g}"
    text = str(number)
    return text if len(text) <= 60 else f"{text[:59]}…"


def moment(when: datetime | None, kind: str = "full") -> Any:
    """A time as ``<time>``; with `kind` ``ago``, the script says how long ago that is."""
    from markupsafe import Markup

    if when is None:
        return Markup('<span class="muted">never</span>')
    utc = when.astimezone(UTC)
    told = utc.strftime("%-d %b %Y, %H:%M UTC")
    return Markup('<time datetime="{0}" class="{1}" title="{2}">{2}</time>').format(
        utc.strftime("%Y-%m-%dT%H:%M:%SZ"), kind, told
    )


def sql(text: str) -> Any:
    """SQL with its keywords, strings, numbers and comments marked for the style; very long SQL as it is."""
    from markupsafe import Markup, escape
    from pygments.lexers.templates import SqlJinjaLexer

    if len(text) > _LONGEST_MARKED:
        return text
    pieces = []
    for kind, piece in SqlJinjaLexer().get_tokens(text):
        name = next((name for mark, name in _SQL_MARKS.items() if str(kind).startswith(f"Token.{mark}")), "")
        pieces.append(Markup('<span class="{}">{}</span>').format(name, piece) if name else escape(piece))
    return Markup("").join(pieces).rstrip()


def trusted(html: str) -> Any:
    """HTML that smoll itself has made, with what goes into it escaped."""
    from markupsafe import Markup

    return Markup(html)  # noqa: S704


@cache
def _markdown_parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(["table", "strikethrough"])


def markdown(text: str) -> Any:
    """A description as HTML: Markdown without HTML of its own, pictures shown as links; nothing is fetched."""
    from markupsafe import Markup

    parser = _markdown_parser()
    tokens = parser.parse(text)
    for token in tokens:
        token.children = list(_without_pictures(token.children or ())) or token.children
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704  # it escapes what it is given


def _without_pictures(tokens: Iterable[Any]) -> Iterable[Any]:
    for token in tokens:
        if token.type == "image":
            token.type, token.tag, token.content = "text", "", token.content or "picture"
        yield token
