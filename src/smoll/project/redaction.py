"""Which texts are secret, and how they are taken out of everything that is printed or stored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from smoll.project.environment import variables_in

SHORTEST = 4  # a shorter secret is in every other word, and hiding it would make every message unreadable

_SECRET_NAME = re.compile("PASS|SECRET|TOKEN|KEY|PWD|CREDENTIAL|DSN|AUTH|URL", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"://[^\s/:@]*:(\S*)@")  # in a text that goes on behind the URL
_PASSWORD_OF_URL = re.compile(r"://[^\s/:@]*:(.*)@", re.DOTALL)  # in a value that is the URL and nothing else
_QUERY_PASSWORD = re.compile(
    r"[?&](?:[\w.-]*(?:password|passwd|pwd|secret|token|credential|signature|api[_-]?key)|key|sig)=([^&\s#\"']+)",
    re.IGNORECASE,
)
_SECRET_OPTION = re.compile(
    "pass|secret|token|(api|access|private)[_-]?key|pwd|credential|dsn|authorization|cookie", re.IGNORECASE
)
_ABOUT_SECRET = re.compile("[_-](url|path|field|type|name|param|header|location|expires?(_in)?)$", re.IGNORECASE)
_PLAIN_HEADERS = {"accept", "accept-language", "content-type", "user-agent", "referer"}


def find_secrets(text: str, raw: Any, data: Any, dotenv: Mapping[str, str], variables: Mapping[str, str]) -> set[str]:
    """Collect every secret that the project file and `.env` give away or point to.

    Parameters
    ----------
    text
        The project file as text: all that there is when it is not valid YAML.
    raw, data
        Its values before and after the variables were filled in.
    dotenv
        The values of `.env`.
    variables
        The values of `.env` and the environment together.
    """
    found = {value for name, value in dotenv.items() if _SECRET_NAME.search(name)}
    for name, default in variables_in(text):
        if _SECRET_NAME.search(name):
            found |= {variables.get(name, ""), default}
    misplaced = [value for value in _scalars(raw) if "://" in value]
    for url in (*_urls(raw), *misplaced):
        found |= {variables.get(name, "") for name, _ in variables_in(url)}
    found |= set(_urls(data))
    found |= set(_options(data))
    found |= set(_passed_on(data))
    found |= set(_passwords(text, _URL_PASSWORD))
    for value in (*_scalars(data), *dotenv.values()):
        found |= set(_passwords(value, _PASSWORD_OF_URL))
    found |= {line.strip() for secret in found for line in secret.splitlines()}  # a message may quote one line
    return {secret for secret in found if len(secret) >= SHORTEST}


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces every one of `secrets`, in any of its written forms, by ``***``."""
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
    if not forms:
        return lambda text: text
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return lambda text: pattern.sub("***", text)


def _forms(secret: str) -> Iterator[str]:
    for text in (secret, unquote(secret)):
        # The environment may hold bytes that are not UTF-8; Python keeps them as lone surrogates.
        encoded = text.encode("utf-8", "surrogatepass")
        yield from (text, quote(encoded), quote(encoded, safe=""), quote_plus(encoded))
        yield from (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
        yield from (repr(text)[1:-1], text.replace("'", "''"), text.replace("\\", "\\\\").replace("'", "\\'"))


def _passwords(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    for password in pattern.findall(text):
        # An unescaped @ may be part of the password or begin something else: hide both readings.
        yield from (password, password.split("@")[0])
    yield from _QUERY_PASSWORD.findall(text)


def _urls(data: Any) -> list[str]:
    sources = data.get("sources") if isinstance(data, dict) else None
    specs = sources.values() if isinstance(sources, dict) else ()
    urls = [spec.get("url") for spec in specs if isinstance(spec, dict)]
    dagster = data.get("dagster") if isinstance(data, dict) else None
    urls += [dagster.get("storage")] if isinstance(dagster, dict) else []
    return [text for url in urls for text in _scalars(url)]


def _options(data: Any) -> Iterator[str]:
    """The secret ones of the `headers` and `storage` of sources. A region is none, and stands in other words."""
    sources = data.get("sources") if isinstance(data, dict) else None
    for spec in sources.values() if isinstance(sources, dict) else ():
        if not isinstance(spec, dict):
            continue
        headers, storage = spec.get("headers"), spec.get("storage")
        for name, value in headers.items() if isinstance(headers, dict) else ():
            if isinstance(value, str) and name.lower() not in _PLAIN_HEADERS:
                yield from (value, value.split(" ")[-1])  # "Bearer <token>"
        for name, value in storage.items() if isinstance(storage, dict) else ():
            if isinstance(value, str) and _SECRET_NAME.search(name):
                yield value


def _passed_on(data: Any) -> Iterator[str]:
    """The secrets in the `config` of sources, another tool's configuration: the name of their key tells them."""
    sources = data.get("sources") if isinstance(data, dict) else None
    for spec in sources.values() if isinstance(sources, dict) else ():
        if isinstance(spec, dict):
            yield from _secret_values(spec.get("config"))


def _secret_values(data: Any) -> Iterator[str]:
    if isinstance(data, list):
        for item in data:
            yield from _secret_values(item)
    for key, value in data.items() if isinstance(data, dict) else ():
        if _SECRET_OPTION.search(key) and not _ABOUT_SECRET.search(key):
            for text in _scalars(value):
                yield from (text, text.split(" ")[-1])  # "Bearer <token>"
        else:
            yield from _secret_values(value)


def _scalars(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, (dict, list)):
        for item in data.values() if isinstance(data, dict) else data:
            yield from _scalars(item)
