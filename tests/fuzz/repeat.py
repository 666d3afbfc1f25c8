"""Load the cases of a finding again: python -m fuzz.repeat FILE ... (in the folder ``tests``)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from fuzz.cases import Case
from fuzz.check import check_cases


def main() -> int:
    found = 0
    for name in sys.argv[1:]:
        case = Case.from_json(Path(name).read_text(encoding="utf-8"))
        print(f"{name}: {case.kind} {case.options}\n  good: {case.good[:2000]!r}\n  bad:  {case.bad[:2000]!r}")
        with tempfile.TemporaryDirectory() as folder:
            for _, wrong in check_cases([case], Path(folder)):
                found += 1
                print(f"  {wrong}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
