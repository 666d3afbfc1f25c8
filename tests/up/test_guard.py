"""What other web pages could do to Dagster's webserver, and cannot through the guard. Each attack is tried on both."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from smoll.up.guard import UNFRAMED, Guard, refuse, refuse_at_dagster

EVIL = "https://evil.example"
MUTATION = 'mutation { setConcurrencyLimit(concurrencyKey: "%s", limit: 3) }'
SUBSCRIPTION = "subscription { locationStateChangeEvents { __typename } }"
_keys = iter(range(1000))


class Sites:
    """The same webserver twice: as Dagster makes it, and behind the guard."""

    def __init__(self, instance: DagsterInstance, bare: int, guarded: int) -> None:
        self.instance, self.bare, self.guarded = instance, bare, guarded

    def mutation(self) -> tuple[str, str]:
        """A mutation, and the key that it would make."""
        key = f"key{next(_keys)}"
        return MUTATION % key, key

    def changed(self, key: str) -> bool:
        return key in self.instance.event_log_storage.get_concurrency_keys()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("instance")
        (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        instance = stack.enter_context(DagsterInstance.from_config(str(folder)))
        context = stack.enter_context(WorkspaceProcessContext(instance, EmptyWorkspaceTarget()))
        app = create_app_from_workspace_process_context(context)
        bare = stack.enter_context(_serving(app))
        yield Sites(instance, bare, stack.enter_context(_serving(Guard(app, refuse_at_dagster, UNFRAMED))))


@contextmanager
def _serving(app: Any) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)


def send(port: int, method: str, path: str, headers: dict[str, str] | None = None, body: str = "") -> HTTPResponse:
    """One request, with exactly these headers; Host is right unless it is among them."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"127.0.0.1:{port}", **(headers or {})}.items():
        connection.putheader(name, value)
    if method == "POST":
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body.encode() or None)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


GETS = {
    "an image": "/graphql?query={}",
    "an operation beside a query": "/graphql?query={}%20query%20q%20%7B%20version%20%7D&operationName=",
    "a query before it": "/graphql?query=%7Bversion%7D&query={}",
    "a line end in the path": "/graphql%0A?query={}",
    "an encoded path": "/%67raphql?query={}",
}


@pytest.mark.parametrize("path", GETS.values(), ids=GETS)
def test_a_mutation_by_get(sites: Sites, path: str) -> None:
    mutation, key = sites.mutation()
    if "operationName" in path:
        mutation = f"mutation m {mutation.removeprefix('mutation')}"
        path += "m"
    assert send(sites.guarded, "GET", path.format(quote(mutation))).status == 405
    assert not sites.changed(key)
    assert send(sites.bare, "GET", path.format(quote(mutation))).status == 200
    assert sites.changed(key), "the webserver does not run mutations by GET: is the guard still needed?"


POSTS = {
    "a form of another page": ("?query={}", {"Content-Type": "text/plain", "Origin": EVIL}),
    "a form of a sandboxed frame": ("?query={}", {"Content-Type": "text/plain", "Origin": "null"}),
    "a form of an old browser": ("?query={}", {"Content-Type": "application/x-www-form-urlencoded"}),
    "no type": ("?query={}", {}),
    "a type that only contains the right one": ("", {"Content-Type": "text/plain; a=application/json"}),
    "another port of this machine": ("", {"Content-Type": "application/json", "Origin": "http://127.0.0.1:8888"}),
    "another name of this machine": ("", {"Content-Type": "application/json", "Origin": "http://localhost:{port}"}),
    "a foreign name that leads here": (
        "",
        {"Content-Type": "application/json", "Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
    ),
    "a request of another site": ("", {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}),
    "a request of another port": ("", {"Content-Type": "application/json", "Sec-Fetch-Site": "same-site"}),
}


@pytest.mark.parametrize(("search", "headers"), POSTS.values(), ids=POSTS)
def test_a_mutation_by_post(sites: Sites, search: str, headers: dict[str, str]) -> None:
    mutation, key = sites.mutation()
    path = f"/graphql{search.format(quote(mutation))}"
    body = "" if search else json.dumps({"query": mutation})
    for port, status, changes in ((sites.guarded, (403, 415), False), (sites.bare, (200,), True)):
        named = {name: value.format(port=port) for name, value in headers.items()}
        assert send(port, "POST", path, named, body).status in status
        assert sites.changed(key) == changes


def test_an_event_reported_by_another_page(sites: Sites) -> None:
    from dagster import AssetKey

    path = "/report_asset_materialization/forged"
    assert send(sites.guarded, "POST", path, {"Origin": EVIL}).status == 403
    assert send(sites.guarded, "POST", path).status == 415
    assert sites.instance.get_latest_materialization_event(AssetKey("forged")) is None
    assert send(sites.bare, "POST", path, {"Origin": EVIL}).status == 200
    assert sites.instance.get_latest_materialization_event(AssetKey("forged")) is not None


@pytest.mark.parametrize("origin", [EVIL, "http://localhost:1", "null"])
def test_a_websocket_of_another_page(sites: Sites, origin: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        _subscribe(sites.guarded, origin)
    assert refused.value.response.status_code == 403
    assert _subscribe(sites.bare, origin) == "connection_ack"


def test_a_websocket_to_a_foreign_name(sites: Sites) -> None:
    with pytest.raises(InvalidStatus):
        _subscribe(sites.guarded, None, host="evil.example")
    assert _subscribe(sites.bare, None, host="evil.example") == "connection_ack"


def test_the_page_itself_and_programs_of_this_machine_are_served(sites: Sites) -> None:
    port = sites.guarded
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    json_type = {"Content-Type": "application/json; charset=utf-8"}
    mutation, key = sites.mutation()
    assert send(port, "POST", "/graphql", {**own, **json_type}, json.dumps({"query": mutation})).status == 200
    assert sites.changed(key)
    assert send(port, "POST", "/graphql", json_type, '{"query": "{ version }"}').status == 200
    assert send(port, "GET", "/graphql?query=%7Bversion%7D").status == 200
    assert send(port, "GET", "/graphql?query=query%20a%20%7Bversion%7D").status == 200
    assert send(port, "GET", "/server_info", {"Host": f"localhost:{port}"}).status == 200
    assert send(port, "GET", "/server_info", {"Host": f"[::1]:{port}"}).status == 200
    assert _subscribe(port, f"http://127.0.0.1:{port}") == "connection_ack"
    assert _subscribe(port, None) == "connection_ack"


def test_a_link_to_a_page_is_followed_and_nothing_else(sites: Sites) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert send(sites.guarded, "GET", "/runs", link).status == 200
    assert send(sites.guarded, "GET", "/runs", {**link, "Sec-Fetch-Dest": "iframe"}).status == 403
    assert (
        send(sites.guarded, "GET", "/runs", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}).status == 403
    )
    assert send(sites.guarded, "GET", "/graphql?query=%7Bversion%7D", link).status == 403


def test_a_page_may_not_be_framed_or_read(sites: Sites) -> None:
    for path in ("/", "/server_info", "/graphql?query=mutation%7Ba%7D"):
        headers = send(sites.guarded, "GET", path).headers
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers.get_all("Content-Security-Policy", [])
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert send(sites.bare, "GET", "/").headers["X-Frame-Options"] is None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("evil.example", "a name"),
        ("127.0.0.1.evil.example", "a name that begins well"),
        ("evil.example:127.0.0.1", "a name with a strange port"),
        ("localhost.", "a name with a dot"),
        ("", "none"),
        ("127.0.0.1@evil.example", "a name with a user"),
    ],
)
def test_a_host_that_is_not_this_machine(host: str, name: str) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", host.encode())]}
    assert refuse(scope) is not None, name


def test_hosts_that_contradict_each_other_are_refused() -> None:
    headers = [(b"host", b"127.0.0.1"), (b"host", b"evil.example")]
    assert refuse({"type": "http", "method": "GET", "path": "/", "headers": headers}) is not None
    assert refuse({"type": "http", "method": "GET", "path": "/", "headers": []}) is not None


def test_a_front_door_may_name_itself() -> None:
    headers = [(b"host", b"data.example"), (b"origin", b"https://data.example"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": headers}
    assert refuse(scope) is not None
    assert refuse(scope, ("data.example",)) is None


def test_a_deeply_nested_query_is_refused_not_a_crash() -> None:
    query = quote("{a" * 20_000).encode()
    scope = {"type": "http", "method": "GET", "path": "/graphql", "headers": [(b"host", b"localhost")]}
    assert (refuse_at_dagster({**scope, "query_string": b"query=" + query}) or (0,))[0] == 405


def _subscribe(port: int, origin: Any, host: str = "127.0.0.1") -> str:
    """Open the websocket as a page of this origin does. Returns what the server says to it."""
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        connect(f"ws://{host}:{port}/graphql", sock=plain, origin=origin, subprotocols=["graphql-ws"]) as opened,  # type: ignore[list-item]
    ):
        opened.send(json.dumps({"type": "connection_init"}))
        return str(json.loads(opened.recv(timeout=10))["type"])
