"""What Tab offers, by what is typed before and after the cursor, and when Enter means "go"."""

from __future__ import annotations

import pytest

from smoll.cli.completion import Names, is_complete, statements, suggestions

NAMES = Names(
    {
        ("", "orders"): ("id", "amount", "Order Date"),
        ("", "order"): ("x",),
        ("marts", "daily_sales"): ("day", "sales"),
        ("marts", "orders"): ("mart_id",),
    },
    ("abs", "sum", "date_trunc"),
    {"select": True, "from": True, "order": True, "abort": False},
)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("select * from or|", {"orders", '"order"', "marts.orders"}),
        ("select * from da|", {"marts.daily_sales"}),
        ("select * from marts.|", {"daily_sales", "orders"}),
        ("from orders join |", {"orders", '"order"', "marts.orders", "marts.daily_sales"}),
        ("from orders o, d|", {"marts.daily_sales"}),
        ("describe o|", {"orders", '"order"', "marts.orders"}),
        ("with recent as (from orders) select * from re|", {"recent"}),
        ("select o.| from orders as o", {"id", "amount", '"Order Date"'}),
        ("select o.am| from a join orders o on true where x", {"amount"}),
        ("select orders.i| from orders", {"id"}),
        ("select s.| from marts.daily_sales s", {"day", "sales"}),
        ("select marts.orders.| from marts.orders", {"mart_id"}),
        ('select "Or| from orders', {'"Order Date"', "orders"}),
        ("select a| from orders", {"amount", "abort", "abs("}),
        ("select * from orders where s|", {"select", "sum("}),
        ("SEL|", {"SELECT"}),
        ("select 1; fr|", {"from"}),
        ("from orders; select am|", set()),
        ("select 'fr|", set()),
        ("-- fr|", set()),
        ("select nothing.| from orders", set()),
        ("|", {"select", "from", "order", "abort", "abs(", "sum(", "date_trunc("}),
    ],
)
def test_what_is_offered(typed: str, offered: set[str]) -> None:
    cursor = typed.index("|")
    text = typed.replace("|", "")
    length, found = suggestions(text, cursor, NAMES)
    assert {each.text for each in found} == offered
    assert all(text[cursor - length : cursor].isidentifier() or text[cursor - length] == '"' for _ in found if length)


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("select 1;", True),
        ("select 1; -- done", True),
        ("select 1", False),
        ("select ';", False),
        ("select 'it''s;", False),
        ("select E'\\';", False),
        ("select $$;", False),
        ("select $$;$$;", True),
        ('select ";', False),
        ("select 1 /* ;", False),
        ("select 1 -- ;", False),
        ("", True),
        ("-- a remark", True),
        (".tables", True),
        ("describe orders", True),
        ("describe\nselect 1", False),
        ("quit", True),
    ],
)
def test_enter_goes_where_a_statement_ends(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


def test_statements_end_outside_of_texts_and_names() -> None:
    text = "select ';' as \"a;b\";\n-- ; no\n\nselect $x$;$x$;;\n  from t"
    assert statements(text) == [(0, "select ';' as \"a;b\""), (3, "select $x$;$x$"), (4, "from t")]
