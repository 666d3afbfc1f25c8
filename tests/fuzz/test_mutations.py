"""Damaged files: whatever stands in them, the load is clean, complete and true to the file (see `fuzz.check`).

``make fuzz`` runs the long form, an hour by default. A finding leaves a file; ``python -m fuzz.repeat FILE`` loads
it again.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
CHUNK_SECONDS = 300


def worker(seed: int, seconds: float, folder: Path, cases: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fuzz.worker", str(seed), str(seconds), str(folder), str(cases)]
    return subprocess.Popen(
        command, cwd=TESTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )


def test_damaged_files_are_loaded_truly_or_refused(tmp_path: Path) -> None:
    process = worker(1, 60, tmp_path, cases=96)

    output = process.communicate(timeout=300)[0]

    assert process.returncode == 0, output


@pytest.mark.fuzz
def test_damaged_files_for_long() -> None:
    """``MINUTES`` and ``SEED`` in the environment choose how long, and which cases."""
    minutes = float(os.environ.get("MINUTES", "60"))
    seed = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(10**9)
    folder = TESTS.parent / ".cache" / "fuzz" / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"\nSEED={seed}, {minutes:g} minutes; findings go to {folder}", flush=True)
    end, failed = time.monotonic() + minutes * 60, False
    while (left := end - time.monotonic()) > 0:
        seconds = min(left, CHUNK_SECONDS)
        seeds = range(seed, seed + (os.cpu_count() or 1))
        workers = {number: worker(number, seconds, folder / str(number)) for number in seeds}
        for number, process in workers.items():
            output, _ = process.communicate(timeout=seconds + 900)
            print(output.strip(), flush=True)
            if process.returncode not in (0, 1):  # a crash, or a hang
                print(
                    f"{folder / str(number) / 'now'}: ended with {process.returncode} while loading these", flush=True
                )
            failed = failed or process.returncode != 0
        seed = seeds.stop
    assert not failed
