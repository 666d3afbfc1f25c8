"""Nested JSON as STRUCT and LIST: the type that holds every value of a column exactly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_NUMBERS = ("UBIGINT", "BIGINT", "DOUBLE")


def structure_of(connection: DuckDBPyConnection, sql: str, column: str) -> Any:
    """The structure of all values of a JSON column, as ``json_group_structure`` has it. None without values."""
    row = connection.execute(f"SELECT json_group_structure({quote(column)}) FROM ({sql})").fetchone()
    return json.loads(row[0]) if row and row[0] is not None else None


def merge(one: Any, other: Any) -> Any:
    """The structure that holds the values of both."""
    if one == other or other in (None, "NULL"):
        return one
    if one in (None, "NULL"):
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*one, *other])
        return {key: merge(one.get(key), other.get(key)) for key in keys}
    if isinstance(one, list) and isinstance(other, list):
        return [merge(one[0], other[0])]
    if one in _NUMBERS and other in _NUMBERS:
        return max(one, other, key=_NUMBERS.index)
    return "JSON"


def plain(structure: Any) -> Any:
    """The structure with one type for whole numbers, and JSON where nothing is known or keys differ by case only."""
    if isinstance(structure, dict):
        if not structure or len({key.lower() for key in structure}) < len(structure) or "" in structure:
            return "JSON"
        return {key: plain(inner) for key, inner in structure.items()}
    if isinstance(structure, list):
        return [plain(structure[0])]
    if structure in ("UBIGINT", "BIGINT"):
        return "BIGINT"
    return structure if structure in ("DOUBLE", "BOOLEAN", "VARCHAR") else "JSON"


def type_of(connection: DuckDBPyConnection, structure: Any) -> str:
    """The type of a `plain` structure, as DuckDB itself spells it: it quotes names only where it has to."""
    row = connection.execute(f"SELECT typeof(CAST(NULL AS {_type(structure)}))").fetchone()
    return str(row[0]) if row else _type(structure)


def _type(structure: Any) -> str:
    if isinstance(structure, dict):
        return f"STRUCT({', '.join(f'{quote(key)} {_type(inner)}' for key, inner in structure.items())})"
    return f"{_type(structure[0])}[]" if isinstance(structure, list) else str(structure)


def cast(column: str, structure: Any) -> str:
    """SQL that turns a JSON column into the type of a `plain` structure."""
    return f"from_json({quote(column)}, {literal(json.dumps(structure, ensure_ascii=False))})"


def inexact_number(connection: DuckDBPyConnection, sql: str, column: str, structure: Any) -> str | None:
    """A whole number, as text, that the structure would round or lose; None where there is none."""
    leaves = set(_leaves(structure))
    if not leaves & {"BIGINT", "DOUBLE"}:
        return None
    limit = 2**53 if "DOUBLE" in leaves else 2**63 - 1
    numbers = f"regexp_extract_all(CAST({quote(column)} AS VARCHAR), '[:,\\[](-?[0-9]{{16,}})[,\\]}}]', 1)"
    found = f"""SELECT number FROM (SELECT unnest({numbers}) AS number FROM ({sql}))
        WHERE coalesce(abs(TRY_CAST(number AS HUGEINT)) > {limit}, true) LIMIT 1"""
    row = connection.execute(found).fetchone()
    return str(row[0]) if row else None


def _leaves(structure: Any) -> list[str]:
    if isinstance(structure, dict):
        return [leaf for inner in structure.values() for leaf in _leaves(inner)]
    return _leaves(structure[0]) if isinstance(structure, list) else [structure]
