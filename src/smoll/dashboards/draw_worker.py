"""Draws charts with a few rows each, in a process of its own: Vega's engine takes memory that nobody gives back.

Reads one chart a line, as ``{"spec": ..., "data": {name: rows}}``, and answers each with a line
``{"error": ..., "warnings": [...]}``. Imports nothing of smoll, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
from contextlib import suppress
from typing import Any

SECONDS = 60
"""Of processor time, for all charts together. A chart can count to a billion."""
BYTES = 1536 * 1024**2
"""Of memory. Vega itself takes 150 MB."""


_FINE = re.compile("fit-[xy]|Domains that should be unioned has conflicting sort")
"""Warnings of what Vega-Lite does anyway, and rightly."""


def main() -> None:
    import vl_convert

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with tempfile.TemporaryFile() as said:  # Vega writes its warnings, and errors while it draws, to the console
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        for line in sys.stdin:
            chart = json.loads(line)
            said.seek(0)
            said.truncate()
            error = _error(vl_convert, chart)
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").splitlines()
            errors = [_plain(each[6:]) for each in lines if each.startswith("ERROR ")]
            warnings = [_plain(each[5:]) for each in lines if each.startswith("WARN ") and not _FINE.search(each)]
            answers.write(json.dumps({"error": error or "".join(errors[:1]), "warnings": warnings[:5]}) + "\n")
            answers.flush()


def _draw(vl_convert: Any, chart: dict[str, Any]) -> None:
    vega = vl_convert.vegalite_to_vega(chart["spec"], show_warnings=True)
    for data in vega.get("data", []):
        if data["name"] in chart["data"]:
            data["values"] = chart["data"][data["name"]]
    vl_convert.vega_to_scenegraph(vega, allowed_base_urls=[])


def _error(vl_convert: Any, chart: dict[str, Any]) -> str:
    try:
        _draw(vl_convert, chart)
    except Exception as error:
        lines = str(error).splitlines()
        return _plain(lines[1] if len(lines) > 1 else lines[0] if lines else type(error).__name__)
    return ""


def _plain(text: str) -> str:
    return re.sub(r"^\w*Error: ", "", text.strip())[:500]


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
