"""Packages for tests that install connectors: wheels made on the spot, so that no index is needed."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_TIME = (2020, 1, 1, 0, 0, 0)

TAP = """\
import json, sys

SETTINGS = {
    "type": "object",
    "required": ["token"],
    "properties": {
        "token": {"type": "string", "secret": True, "description": "What the <b>server</b> knows you by."},
        "pages": {"type": ["integer", "null"], "default": 3, "description": "How many pages to read."},
        "kind": {"type": "string", "enum": ["small", "large"]},
        "stream_maps": {"type": "object"},
    },
}
CATALOG = {"streams": [
    {"tap_stream_id": name, "stream": name, "key_properties": ["id"],
     "schema": {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": ["string", "null"]}}},
     "metadata": [{"breadcrumb": [], "metadata": {"table-key-properties": ["id"]}}]}
    for name in ("issues", "pulls")
]}


def main():
    if "--help" in sys.argv:
        print("tap-tiny [--config FILE] [--catalog FILE] [--state FILE] [--discover] [--about] [--format json]")
    elif "--about" in sys.argv:
        print(json.dumps({"name": "tap-tiny", "settings": SETTINGS}))
    elif "--discover" in sys.argv:
        print(json.dumps(CATALOG))
    elif "--version" in sys.argv:
        print(VERSION)
    else:
        for stream in CATALOG["streams"]:
            name = stream["stream"]
            print(json.dumps({"type": "SCHEMA", "stream": name, "key_properties": ["id"], "schema": stream["schema"]}))
            print(json.dumps({"type": "RECORD", "stream": name, "record": {"id": 1, "name": VERSION}}))
"""
MUTE_TAP = """\
import sys


def main():
    sys.exit("unknown arguments")
"""
SOURCE = """\
import json, sys

SPEC = {
    "type": "object",
    "required": ["credentials", "start_date", "size"],
    "properties": {
        "size": {"type": "integer", "default": 10, "minimum": 1, "order": 3},
        "start_date": {"type": "string", "format": "date", "examples": ["2024-01-31"], "order": 2},
        "note": {"type": "string", "description": "Any text, ${this} too.", "default": "a: b ${c}"},
        "credentials": {
            "type": "object",
            "title": "How to sign in",
            "order": 1,
            "oneOf": [
                {"title": "OAuth", "required": ["client_secret"], "properties": {
                    "auth": {"type": "string", "const": "oauth"},
                    "client_secret": {"type": "string", "airbyte_secret": True}}},
                {"title": "Token", "required": ["token"], "properties": {
                    "auth": {"type": "string", "const": "token"},
                    "token": {"type": "string", "airbyte_secret": True}}},
            ],
        },
        "tunnel": {"type": "object", "required": ["host"], "properties": {
            "host": {"type": "string"}, "port": {"type": "integer", "default": 22}}},
    },
}
STREAM = {"name": "users", "json_schema": {"type": "object", "properties": {"id": {"type": "integer"},
          "updated_at": {"type": "string", "format": "date-time"}}},
          "supported_sync_modes": ["full_refresh", "incremental"], "source_defined_cursor": True,
          "default_cursor_field": ["updated_at"], "source_defined_primary_key": [["id"]]}


def main():
    command = sys.argv[1]
    if command == "spec":
        print(json.dumps({"type": "SPEC", "spec": {"connectionSpecification": SPEC}}))
    elif command == "check":
        print(json.dumps({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}}))
    elif command == "discover":
        print(json.dumps({"type": "CATALOG", "catalog": {"streams": [STREAM]}}))
    else:
        data = {"id": 1, "updated_at": "2024-01-01T00:00:00Z"}
        print(json.dumps({"type": "RECORD", "record": {"stream": "users", "data": data, "emitted_at": 0}}))
"""


def build_wheel(
    folder: Path,
    name: str,
    version: str,
    code: str = "def main(): pass\n",
    scripts: Sequence[str] | None = None,
    requires: Sequence[str] = (),
) -> Path:
    """Write a wheel of one module with a function ``main``, the same bytes each time.

    ``scripts`` are its console scripts; by default one, with the name of the package.
    """
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        *(f"Requires-Dist: {r}\n" for r in requires),
    ]
    points = [f"{script} = {module}:main\n" for script in ([name] if scripts is None else scripts)]
    files = {
        f"{module}.py": f"VERSION = {version!r}\n{code}",
        f"{info}/METADATA": "".join(metadata),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "".join(["[console_scripts]\n", *points]),
    }
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, _TIME), text)
    return wheel


def _record(files: Mapping[str, str], own: str) -> str:
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}\n")
    return "".join([*lines, f"{own},,\n"])
