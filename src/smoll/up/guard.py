"""Keeps web pages of others away from what `smoll up` serves: what a security reviewer should read.

Nothing here has a login. It listens on loopback only, but any page that the person at this machine visits can
make the browser send requests there. And Dagster runs GraphQL mutations, which start runs, for a plain GET (an
``<img>`` is enough) and for any POST with a query string, and accepts a websocket from any page, which may read its
answers.

The front asks `refuse` before it answers or passes on anything (`smoll.up.front`). Behind it Dagster and the apps have
the guard once more as ASGI middleware in their own processes, on sockets that only this user can reach. It refuses

- a request whose ``Host`` is no loopback name: a foreign name that was made to point here (DNS rebinding). Starlette's
  ``TrustedHostMiddleware`` does this, but cuts ``[::1]:3000`` at the first colon;
- a request, websockets included, with an ``Origin`` other than ``Host``. Browsers send it with each POST and each
  websocket, and pages cannot forge it;
- a request that the browser says another site caused (``Sec-Fetch-Site``), since those for images, scripts and frames
  have no ``Origin``; a link that a person follows to a page passes, other than to GraphQL;
- of Dagster, a GET of GraphQL that is more than a query;
- of Dagster, any other method without a body of JSON. A page cannot send that type to another origin without being
  allowed to, and nobody answers its question (CORS). This is for browsers too old for what is above. Streamlit has a
  token for uploads (XSRF) instead.

Programs on this machine send neither ``Origin`` nor ``Sec-Fetch-Site``, and are let through: they run as somebody who
has logged in here. Any user of this machine can thus reach what is served.

Answers forbid to be framed (clickjacking) and to be read into other sites' pages. At its top this module imports the
standard library only: the front has nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_GRAPHQL = "graphql"
_READING = ("GET", "HEAD")
_JSON = ("application/json", "application/graphql")
Headers = tuple[tuple[bytes, bytes], ...]
_KEPT_TO_ITSELF: Headers = (
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
# The policy stands beside one of the app's own: a browser obeys both.
UNFRAMED: Headers = (
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    *_KEPT_TO_ITSELF,
)
FRAMED_BY_ITSELF: Headers = (
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"content-security-policy", b"frame-ancestors 'self'"),
    *_KEPT_TO_ITSELF,
)
"""Streamlit shows components in frames of its own."""
_POLICY_VIOLATION = 1008
Refusal = tuple[int, str]


class Guard:
    """Passes on to `app` what `rule` does not refuse: `refuse`, or `refuse_at_dagster`. Adds `headers` to answers."""

    def __init__(self, app: App, rule: Callable[[Scope], Refusal | None], headers: Headers) -> None:
        self._app, self._rule, self._headers = app, rule, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI asks for it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)  # the server's own start and end
            return
        refusal = self._rule(scope)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send, self._headers))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})  # before it is accepted: HTTP's 403
        else:
            await _answer(send, *refusal)


def refuse(scope: Scope, hosts: Sequence[str] = LOOPBACK) -> Refusal | None:
    """Say with which status and words a request is refused, whatever it is for; None where it is not.

    ``hosts``: the names under which the server may be called, without port.
    """
    host = _only(scope, b"host")
    if host is None or _name(host) not in hosts:
        return 403, f"Call this server by one of the names {', '.join(hosts)}."
    origins = _values(scope, b"origin")
    if any(not _is_origin_of(origin, host) for origin in origins):
        return 403, "This page is of another origin."
    return _refuse_other_site(scope, navigating=scope["type"] == "http" and scope["method"] in _READING)


def refuse_at_dagster(scope: Scope, hosts: Sequence[str] = LOOPBACK) -> Refusal | None:
    """`refuse`, and what Dagster would do without being asked as it should be."""
    refusal = refuse(scope, hosts)
    if refusal is not None or scope["type"] == "websocket":
        return refusal
    method = scope["method"]
    # `in`, not `endswith`: Starlette's routes also match a path with a line end after it.
    is_graphql = _GRAPHQL in scope["path"].lower()
    if method in _READING:
        return (_refuse_other_site(scope, navigating=False) or _refuse_mutation(scope)) if is_graphql else None
    if _media_type(scope) not in _JSON:
        return 415, f"Send a {method} with a body and the header Content-Type: application/json."
    return None


def _refuse_other_site(scope: Scope, *, navigating: bool) -> Refusal | None:
    """Browsers say who caused a request (W3C, Fetch Metadata Request Headers); other programs say nothing.

    Other ports of this machine are ``same-site``, and another program's page all the same.
    """
    sites = _values(scope, b"sec-fetch-site")
    if all(site in ("same-origin", "none") for site in sites):
        return None
    is_link = _only(scope, b"sec-fetch-mode") == "navigate" and _only(scope, b"sec-fetch-dest") == "document"
    if navigating and is_link:
        return None
    return 403, "This request was caused by a page of another site."


def _refuse_mutation(scope: Scope) -> Refusal | None:
    """Let a GET only ask. Every ``query`` in it is looked at, as the server may take any."""
    from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
    from starlette.datastructures import QueryParams

    for text in QueryParams(scope.get("query_string", b"")).getlist("query"):
        try:
            nodes = parse(text).definitions
        except (GraphQLError, RecursionError):
            return 405, "This is no GraphQL that a GET may carry. Send it by POST, as JSON."
        operations = [node.operation for node in nodes if isinstance(node, OperationDefinitionNode)]
        if any(operation is not OperationType.QUERY for operation in operations):
            return 405, "A GET may not change anything. Send a mutation by POST, as JSON."
    return None


def _name(host: str) -> str:
    """The host without its port: ``[::1]:3000`` is ``[::1]``."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _is_origin_of(origin: str, host: str) -> bool:
    """Whether a page of this origin was served under this host. ``null``, as of a sandboxed frame, never was."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _media_type(scope: Scope) -> str:
    """The type alone. Dagster looks for the words anywhere in the header, as ``text/plain; application/json``."""
    value = _only(scope, b"content-type") or ""
    return value.partition(";")[0].strip().lower()


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _only(scope: Scope, name: bytes) -> str | None:
    """The value of a header that is there once; None where it is missing, or there are several to choose from."""
    values = _values(scope, name)
    return values[0] if len(values) == 1 else None


def _with_headers(send: Send, headers: Headers) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *UNFRAMED]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
