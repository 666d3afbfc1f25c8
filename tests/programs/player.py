"""A fake connector: a Singer tap or an Airbyte source, as it is asked. It plays a script, and behaves as badly as told.

Tests copy it into a project and run it by its path, which is the project's folder as the working directory. With
`play: x` in its configuration (default ``s``) it writes ``play/x`` line by line. A line that begins with ``#`` is not
written but done; see `_DO`. ``play/x.catalog`` is its catalog, ``play/x.spec`` its spec, ``play/x.help`` its help.
What it was given is added to ``play/x.calls``, a line of JSON for each call.
"""

# ruff: noqa: PTH116, PTH118, PTH123
# Without pathlib it starts in half of the time.
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

OUT = sys.stdout.buffer


def main() -> None:
    words = sys.argv[1:]
    command = words[0] if words and not words[0].startswith("-") else ""
    given: dict[str, Any] = {}
    for place, word in enumerate(words):
        if word in ("--config", "--catalog", "--properties", "--state"):
            with open(words[place + 1], encoding="utf-8") as file:
                given[word[2:]] = json.load(file)
            given.setdefault("modes", {})[word[2:]] = oct(os.stat(words[place + 1]).st_mode & 0o777)
    name = os.path.join("play", given.get("config", {}).get("play", "s"))
    if "--help" in words:
        asked = "help"
    elif "--discover" in words or command == "discover":
        asked = "discover"
    else:
        asked = command if command in ("spec", "check") else "read"
    with open(f"{name}.calls", "a", encoding="utf-8") as file:
        file.write(json.dumps({"asked": asked, "words": words, **given}) + "\n")
    if asked == "help":
        print(text_of(f"{name}.help", "--config --catalog --state --discover"))
    elif asked == "discover":
        catalog = text_of(f"{name}.catalog", "")
        if catalog.startswith("#"):
            play(catalog.encode().splitlines(keepends=True), words)
        elif command:
            say({"type": "CATALOG", "catalog": json.loads(catalog)})
        else:
            print(catalog)
    elif asked == "spec":
        spec = json.loads(text_of(f"{name}.spec", '{"type": "object"}'))
        say({"type": "SPEC", "spec": {"connectionSpecification": spec}})
    elif asked == "check":
        default = '{"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}}'
        play([line.encode() + b"\n" for line in text_of(f"{name}.check", default).splitlines()], words)
    else:
        with open(name, "rb") as file:
            play(file, words)


def text_of(path: str, default: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return default


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def play(lines: Iterable[bytes], words: list[str]) -> None:
    for line in lines:
        if not line.startswith(b"#"):
            OUT.write(line)
            continue
        OUT.flush()
        order, _, rest = line[1:].strip().decode().partition(" ")
        _DO[order](rest, words)
    OUT.flush()


def stderr(text: str, words: list[str]) -> None:
    print(text, file=sys.stderr, flush=True)


def flood(size: str, words: list[str]) -> None:
    block = (b"noise " * 20 + b"\n") * 8192
    for _ in range(int(size) // len(block)):
        sys.stderr.buffer.write(block)
    sys.stderr.flush()


def part(text: str, words: list[str]) -> None:
    """The beginning of a line."""
    OUT.write(text.encode())
    OUT.flush()


def long(size: str, words: list[str]) -> None:
    """A record with a text of so many characters: ``size beginning|end``."""
    size, _, line = size.partition(" ")
    start, end = line.split("|")
    OUT.write(start.encode() + b"x" * int(size) + end.encode() + b"\n")


def grandchild(seconds: str, words: list[str]) -> None:
    """Another process has the pipes, too, and in a group of its own."""
    subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({seconds})"], start_new_session=True)


def close(rest: str, words: list[str]) -> None:
    os.closerange(1, 3)


def later(rest: str, words: list[str]) -> None:
    """Another process, in the same group, writes a line after so many seconds."""
    seconds, _, line = rest.partition(" ")
    code = "import sys, time; time.sleep(float(sys.argv[1])); print(sys.argv[2])"
    subprocess.Popen([sys.executable, "-S", "-c", code, seconds, line])


def config(text: str, words: list[str]) -> None:
    """Change the configuration in its own file."""
    with open(words[words.index("--config") + 1], "w", encoding="utf-8") as file:
        file.write(text)


_DO: dict[str, Callable[[str, list[str]], object]] = {
    "exit": lambda code, words: os._exit(int(code)),
    "kill": lambda number, words: os.kill(os.getpid(), int(number)),
    "sleep": lambda seconds, words: time.sleep(float(seconds)),
    "ignore": lambda number, words: signal.signal(int(number), signal.SIG_IGN),
    "touch": lambda path, words: open(path, "w").close(),
    "stderr": stderr,
    "flood": flood,
    "part": part,
    "close": close,
    "end": lambda rest, words: part("\n", words),
    "prompt": lambda text, words: print(text, end="", file=sys.stderr, flush=True),
    "long": long,
    "grandchild": grandchild,
    "later": later,
    "config": config,
}

if __name__ == "__main__":
    main()
