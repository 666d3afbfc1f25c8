"""Write what is made from the models: ``python -m smoll.project.generate`` in the root of the repository."""

from __future__ import annotations

import json
from pathlib import Path

from smoll.project.docs import config_reference
from smoll.project.schema import project_schema


def generated() -> dict[str, str]:
    """Return the text of every generated file, by its path in the repository."""
    return {
        "src/smoll/smoll.schema.json": json.dumps(project_schema(), indent=2) + "\n",
        "docs/config.md": config_reference(),
    }


if __name__ == "__main__":
    for path, text in generated().items():
        Path(path).write_text(text, encoding="utf-8", newline="\n")
