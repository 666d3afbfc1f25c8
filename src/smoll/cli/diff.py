"""``smoll diff``: what is different between two releases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from smoll.cli.context import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smoll.model import Diff, RowDiff, TableDiff

_MOST_VALUES = 8


@click.command(epilog="Example: smoll diff 11 12 --markdown > changes.md")
@click.argument("before", required=False, type=int)
@click.argument("after", required=False, type=int)
@click.option("--samples", type=click.IntRange(0, 100), default=3, show_default=True, help="Rows shown of each sort.")
@click.option("--markdown", is_flag=True, help="As Markdown, for a pull request.")
@json_option
@pass_invocation
def command(
    invocation: Invocation, before: int | None, after: int | None, samples: int, markdown: bool, as_json: bool
) -> int:
    """Compare release BEFORE with release AFTER: schemas, rows, and the values that changed.

    BEFORE is the current release if it is left out, AFTER what the next release would be. Rows are matched by the key
    that dbt knows of a table: a constraint, a test of uniqueness, or `meta: {primary_key: ...}`.
    """
    if markdown and as_json:
        raise click.UsageError("Choose --markdown or --json.")
    diff = invocation.open().diff(before, after, samples=samples)
    if as_json:
        from smoll.cli.output import print_json

        print_json(diff)
    elif markdown:
        click.echo("\n".join(_markdown(diff)))
    else:
        _show(diff)
    return 0


def _show(diff: Diff) -> None:
    from smoll.cli.output import console, count, table

    out = console()
    changed = [one for one in diff.tables if one.status != "equal"]
    out.print(f"From {diff.before} to {diff.after}: {_summary(diff)}")
    if diff.refused_by is not None:
        out.print(f"Run {diff.refused_by} refused to release it: `smoll runs show {diff.refused_by}`")
    if not changed:
        return
    out.print()
    headers = ("", "table", "before", "after", "added", "removed", "changed", "")
    out.print(table(headers, map(_row, changed), right=headers[2:7]))
    for one in changed:
        lines = [*_columns(one), *_values(one)]
        if lines or one.samples:
            out.print(f"\n{one.ref}" + (f", by {', '.join(one.key)}" if one.key else ""))
        for line in lines:
            out.print(f"  {line}")
        for sample in one.samples:
            out.print(f"  {_sample(sample)}")
    left = len(diff.tables) - len(changed)
    if left:
        out.print(f"\n{count(left, 'table')} without a difference.")


def _summary(diff: Diff) -> str:
    from smoll.cli.output import count

    changed = sum(one.status != "equal" for one in diff.tables)
    return f"{changed} of {count(len(diff.tables), 'table')} differ" if changed else "no difference"


def _row(one: TableDiff) -> tuple[RenderableType, ...]:
    signs = {"added": "+", "removed": "-", "changed": "~", "unknown": "?"}
    numbers = (one.rows_before, one.rows_after, one.added, one.removed, one.changed)
    return (signs[one.status], str(one.ref), *(f"{number:,}" if number else "" for number in numbers), one.note)


def _columns(one: TableDiff) -> Iterator[str]:
    for column in one.columns:
        if not column.before:
            yield f"+ {column.name} {column.after}"
        elif not column.after:
            yield f"- {column.name} {column.before}"
        else:
            yield f"~ {column.name} {column.before} → {column.after}"


def _values(one: TableDiff) -> Iterator[str]:
    shown = list(one.values.items())[:_MOST_VALUES]
    if shown:
        more = len(one.values) - len(shown)
        named = ", ".join(f"{name} in {number:,}" for name, number in shown)
        yield f"changed: {named}{f', and {more} more columns' if more else ''}"


def _sample(row: RowDiff) -> str:
    from smoll.cli.output import visible

    sign = {"added": "+", "removed": "-", "changed": "~"}[row.what]
    key = ", ".join(str(value) for value in row.key.values())
    if row.what == "changed":
        cells = ", ".join(f"{name} {_cell(pair[0])} → {_cell(pair[1])}" for name, pair in row.values.items())
    else:
        side = 1 if row.what == "added" else 0
        cells = ", ".join(f"{name} {_cell(pair[side])}" for name, pair in row.values.items())
    return str(visible(f"{sign} {key}: {cells}"))


def _cell(value: str | None) -> str:
    return "NULL" if value is None else value


def _markdown(diff: Diff) -> Iterator[str]:
    """GitHub's Markdown: a table of tables, then what changed in each."""
    yield f"### From {diff.before} to {diff.after}"
    yield ""
    yield f"{_summary(diff)}." + (f" Run {diff.refused_by} refused to release it." if diff.refused_by else "")
    changed = [one for one in diff.tables if one.status != "equal"]
    if changed:
        yield "\n| table | | before | after | added | removed | changed |"
        yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for one in changed:
        numbers = (one.rows_before, one.rows_after, one.added, one.removed, one.changed)
        cells = " | ".join(f"{number:,}" for number in numbers)
        yield f"| `{one.ref}` | {one.status}{f': {_escaped(one.note)}' if one.note else ''} | {cells} |"
    for one in changed:
        lines = [*_columns(one), *_values(one), *map(_sample, one.samples)]
        if lines:
            yield f"\n<details><summary><code>{_html(str(one.ref))}</code></summary>\n\n```diff"
            yield from (line.replace("```", "` ` `") for line in lines)
            yield "```\n\n</details>"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
