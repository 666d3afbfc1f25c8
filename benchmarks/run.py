"""Run the benchmarks and print their tables as Markdown; see README.md beside this file."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from common import CACHE, BenchmarkError, machine, memory_measure, say, versions

BENCHMARKS = {
    "a": "load_flights",
    "b": "five_models",
    "c": "newcomer",
    "d": "install_size",
    "e": "loading",
    "f": "databases",
    "g": "messages",
    "h": "definitions_load",
    "i": "dagster_run",
    "j": "up_memory",
    "k": "staging",
    "l": "diff_tables",
    "m": "portal_build",
    "n": "portal_serving",
}
_BEGIN, _END = "<!-- results: begin -->", "<!-- results: end -->"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="which, for example a,c (default: all)")
    parser.add_argument("--repeat", type=int, default=3, help="turns of each contender; the medians count (default: 3)")
    parser.add_argument(
        "--copies", type=int, default=30, help="how many times the flights for (a) and (e) (default: 30)"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the tables into README.md, in place of what it has of them"
    )
    options = parser.parse_args(arguments)
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    CACHE.mkdir(parents=True, exist_ok=True)
    head = (
        f"{datetime.now(UTC):%Y-%m-%d}, medians of {options.repeat}. Machine: {machine()}.\n\n"
        f"Versions: {versions()}. Memory is {memory_measure()}."
    )
    failed, sections = False, dict[str, str]()
    for key in chosen:
        module = import_module(BENCHMARKS[key])
        say(module.TITLE)
        try:
            section = module.run(options.repeat, options.copies)
        except BenchmarkError as error:
            failed, section = True, f"Not measured:\n\n```text\n{error}\n```"
        sections[key] = f"### {module.TITLE}\n\n{section}"
    if options.write:
        _write(Path(__file__).with_name("README.md"), head, sections)
    else:
        print("\n\n".join([head, *sections.values()]))
    return int(failed)


def _write(path: Path, head: str, sections: dict[str, str]) -> None:
    """Replace these sections between the markers. Where others stay, each new one says when it was measured."""
    before, rest = path.read_text(encoding="utf-8").split(_BEGIN)
    report, after = rest.split(_END)
    if set(sections) != set(BENCHMARKS):
        kept, *found = re.split(r"^(?=### )", report.strip(), flags=re.MULTILINE)
        new = {key: text.replace("\n\n", f"\n\n{head}\n\n", 1) for key, text in sections.items()}
        old = {section[len("### (") : section.index(")")]: section.strip() for section in found}
        head, sections = kept.strip(), {key: text for key in BENCHMARKS if (text := (old | new).get(key))}
    report = "\n\n".join([head, *sections.values()])
    path.write_text(f"{before}{_BEGIN}\n\n{report}\n\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
