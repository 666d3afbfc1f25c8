"""Run the mutation fuzz for a while, in a process of its own: a crash or a hang takes only this one along.

Run as: python -m fuzz.worker SEED SECONDS FOLDER [CASES]. Prints a line for each finding, and at last how many cases
there were. FOLDER/now holds the cases that are being loaded.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from pathlib import Path
from random import Random

from fuzz.cases import make_case
from fuzz.check import check_cases

BATCH = 12
HANG_SECONDS = 180


def main() -> int:
    seed, seconds, folder = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    most = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    now, random, done, found = folder / "now", Random(seed), 0, 0
    now.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (most and done >= most):
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        cases = [make_case(random, folder) for _ in range(BATCH)]
        for number, case in enumerate(cases):
            (now / f"{number}.json").write_text(case.to_json(), encoding="utf-8")
        for case, wrong in check_cases(cases, folder / "project"):
            found += 1
            kept = folder / f"finding-{seed}-{found}.json"
            kept.write_text(case.to_json(), encoding="utf-8")
            print(f"{kept}: {case.kind} {case.options}: {wrong}", flush=True)
        done += len(cases)
    print(f"seed {seed}: {done} cases, {found} findings", flush=True)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
