"""Sources of kind ``rest``, against a server on this machine: pages, faults, credentials, cursors, nested data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import smoll
from api_server import Answer, Api, Asked, serving
from smoll.errors import ConfigError
from support import MakeProject, raw, reopen, rows, types

POSTS = [{"id": id, "at": f"2024-01-{id:02}T00:00:00Z", "title": f"post {id}"} for id in range(1, 8)]


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(lambda asked: Answer(POSTS)) as server:
        yield server


def yml(api: Api, *resources: Any, client: Mapping[str, Any] | None = None, **source: Any) -> str:
    config = {"client": {"base_url": api.url, **(client or {})}, "resources": list(resources)}
    config |= {"resource_defaults": source.pop("defaults")} if "defaults" in source else {}
    return f"sources: {json.dumps({'s': {'kind': 'rest', 'config': config, **source}})}\n"


def run(project: smoll.Project, **options: Any) -> dict[str, Any]:
    result = project.run(**options)
    assert result.status == "ok", [result.error, *(stream.error for stream in result.streams)]
    return {stream.ref.stream: stream for stream in result.streams}


def failure(project: smoll.Project) -> str:
    result = project.run()
    assert result.status == "failed"
    return result.error + "".join(stream.error for stream in result.streams)


def ids(project: smoll.Project, table: str = "raw_s.posts") -> list[int]:
    return [row[0] for row in raw(project, f"SELECT id FROM {table} ORDER BY ALL")]


def test_a_resource_by_its_name_alone_is_a_table_that_is_replaced(make_project: MakeProject, api: Api) -> None:
    project = make_project(yml(api, "posts"))
    assert run(project)["posts"].mode == "replace"
    run(project)
    assert ids(project) == [1, 2, 3, 4, 5, 6, 7]
    assert types(project, "raw_s.posts") == {"id": "BIGINT", "at": "TIMESTAMP WITH TIME ZONE", "title": "VARCHAR"}


def paged(asked: Asked) -> Answer:
    offset, limit = int(asked.parameters["offset"]), int(asked.parameters["limit"])
    return Answer({"items": POSTS[offset : offset + limit], "total": len(POSTS)})


def test_all_pages_are_read(make_project: MakeProject, api: Api) -> None:
    api.answer = paged
    paginator = {"type": "offset", "limit": 3, "total_path": "total"}
    posts = {"name": "posts", "endpoint": {"path": "v1/posts", "data_selector": "items", "paginator": paginator}}
    project = make_project(yml(api, posts))
    run(project)
    assert ids(project) == [1, 2, 3, 4, 5, 6, 7]
    assert [asked.parameters["offset"] for asked in api.asked] == ["0", "3", "6"]


def test_a_busy_or_failing_server_is_asked_again(make_project: MakeProject, api: Api) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.before == 0:
            return Answer("wait", 429, {"Retry-After": "1"})
        return Answer("oh", 500) if asked.before == 1 else Answer(POSTS)

    api.answer = answer
    project = make_project(yml(api, "posts"))
    run(project)
    assert (len(api.asked), len(ids(project))) == (3, 7)


def test_a_page_that_fails_in_the_middle_loads_nothing(make_project: MakeProject, api: Api) -> None:
    def broken(asked: Asked) -> Answer:
        return Answer("gone", 404) if asked.parameters.get("offset") == "3" else paged(asked)

    paginator = {"type": "offset", "limit": 3, "total_path": "total"}
    posts = {"name": "posts", "endpoint": {"path": "posts", "data_selector": "items", "paginator": paginator}}
    api.answer = paged
    project = make_project(yml(api, posts))
    run(project)
    api.answer = broken
    assert failure(project).startswith(f"s.posts: HTTP 404 Not Found from {api.url}/posts")
    assert ids(project) == [1, 2, 3, 4, 5, 6, 7]


def test_credentials_are_sent_and_never_shown(
    make_project: MakeProject, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guarded(asked: Asked) -> Answer:
        allowed = asked.headers.get("authorization") == "Bearer hunter22" and asked.parameters["api_key"] == "hunter33"
        return Answer(POSTS) if allowed else Answer({"error": "who are you, hunter22?"}, 401)

    api.answer = guarded
    monkeypatch.setenv("SOME_TOKEN", "hunter22")
    posts = {"name": "posts", "endpoint": {"path": "posts", "params": {"api_key": "hunter33"}}}
    project = make_project(yml(api, posts, client={"auth": {"type": "bearer", "token": "${SOME_TOKEN}"}}))
    run(project)
    monkeypatch.setenv("SOME_TOKEN", "hunter44")
    said = failure(reopen(project))
    assert said == f"s.posts: HTTP 401 Unauthorized from {api.url}/posts\n  Check the credentials in `config`."
    kept = [path.read_bytes() for path in project.config.root.joinpath(".smoll").rglob("*") if path.is_file()]
    assert not any(b"hunter" in content for content in kept)


def since(asked: Asked) -> Answer:
    return Answer([post for post in POSTS if str(post["at"]) >= asked.parameters["since"]])


INCREMENTAL = {
    "name": "posts",
    "primary_key": "id",
    "endpoint": {
        "path": "posts",
        "params": {"since": {"type": "incremental", "cursor_path": "at", "initial_value": "2024-01-03T00:00:00Z"}},
    },
}


@pytest.mark.parametrize("disposition", [None, "append", "merge"])
def test_an_incremental_resource_asks_for_what_is_new(
    make_project: MakeProject, api: Api, disposition: str | None
) -> None:
    api.answer = since
    posts = {**INCREMENTAL, **({"write_disposition": disposition} if disposition else {})}
    project = make_project(yml(api, posts))
    assert run(project)["posts"].mode == (disposition or "merge")
    api.answer = lambda asked: Answer([*since(asked).body, {"id": 8, "at": "2024-01-09T00:00:00Z"}])
    run(project)
    run(project)
    assert ids(project) == [3, 4, 5, 6, 7, 8]
    assert [asked.parameters["since"][:10] for asked in api.asked] == ["2024-01-03", "2024-01-07", "2024-01-09"]


def test_a_reload_begins_again(make_project: MakeProject, api: Api) -> None:
    api.answer = since
    project = make_project(yml(api, INCREMENTAL))
    run(project)
    run(project, reload=["s.posts"])
    assert [asked.parameters["since"][:10] for asked in api.asked] == ["2024-01-03", "2024-01-03"]
    assert ids(project) == [3, 4, 5, 6, 7]


def test_resources_that_depend_on_another(make_project: MakeProject, api: Api) -> None:
    api.answer = lambda asked: Answer(
        [{"id": int(asked.path.split("/")[2]) * 10}] if "comments" in asked.path else POSTS[:2]
    )
    comments = {
        "name": "comments",
        "endpoint": {"path": "posts/{resources.posts.id}/comments"},
        "include_from_parent": ["id"],
    }
    project = make_project(yml(api, {"name": "posts", "selected": False}, comments))
    assert set(run(project)) == {"comments"}
    assert rows(project, "raw_s.comments") == [(10, 1), (20, 2)]
    assert list(types(project, "raw_s.comments")) == ["id", "_posts_id"]


def test_defaults_and_options_decide_mode_key_table_and_types(make_project: MakeProject, api: Api) -> None:
    text = yml(
        api,
        "posts",
        {"name": "other", "write_disposition": "append", "table_name": "others", "endpoint": "posts"},
        {"name": "third", "endpoint": "posts"},
        defaults={"primary_key": "id", "write_disposition": "merge"},
        streams={"*": {"columns": {"title": "VARCHAR"}}, "third": {"mode": "scd2", "key": "title", "table": "history"}},
    )
    project = make_project(text)
    done = run(project)
    assert {name: (stream.mode, stream.table.name) for name, stream in done.items()} == {
        "posts": ("merge", "posts"),
        "other": ("append", "others"),
        "third": ("scd2", "history"),
    }


def test_nested_data_and_numbers_of_json(make_project: MakeProject, api: Api) -> None:
    body = b'[{"id": 9223372036854775808, "Price": 1.5, "by": {"n": "x"}, "tags": ["a"], "zip": "007", "none": null}]'
    api.answer = lambda asked: Answer(body)
    project = make_project(yml(api, "posts"))
    run(project)
    assert types(project, "raw_s.posts") == {
        "id": "DECIMAL(38,0)",
        "price": "DOUBLE",
        "by": "JSON",
        "tags": "JSON",
        "zip": "VARCHAR",
        "none": "VARCHAR",
    }
    assert raw(project, "SELECT id::VARCHAR, price, zip FROM raw_s.posts") == [("9223372036854775808", 1.5, "007")]
    project = reopen(project, yml(api, "posts", nested="tables", schema="apart"))
    assert set(run(project)) == {"posts", "posts__tags"}
    assert raw(project, "SELECT by__n FROM apart.posts") == [("x",)]


def test_bad_rows_go_to_quarantine_as_those_of_other_kinds(make_project: MakeProject, api: Api) -> None:
    api.answer = lambda asked: Answer([{"id": 1, "n": "1"}, {"id": 2, "n": "x"}])
    options = {"columns": {"n": "BIGINT"}, "on_bad_row": "quarantine"}
    project = make_project(yml(api, "posts", streams={"posts": options}))
    done = run(project)
    assert (done["posts"].read, done["posts"].rows, done["posts"].rejected) == (2, 1, 1)
    assert rows(project, "raw_s.posts") == [(1, 1)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"client": {"base_uri": "x", "base_url": "http://h"}}, "base_uri"),
        ({"resources": [{"name": "posts", "endpoint": {"paths": "x"}}]}, "paths"),
        ({"resources": [{"name": "posts", "endpoint": {"path": "x", "paginator": "sideways"}}]}, "sideways"),
        ({"resources": [{"name": "a", "endpoint": "b/{resources.nothing.id}"}]}, "nothing"),
    ],
)
def test_dlt_checks_the_configuration_before_anything_is_asked(
    make_project: MakeProject, api: Api, change: Mapping[str, Any], said: str
) -> None:
    config = {"client": {"base_url": api.url}, "resources": ["posts"], **change}
    project = make_project(f"sources: {json.dumps({'s': {'kind': 'rest', 'config': config}})}\n")
    (finding,) = [each for each in project.check() if each.topic == "source s"]
    assert finding.level == "error" and said in finding.message
    told = failure(project)
    assert said in told and "Mend `config`" in told and "Traceback" not in told
    assert api.asked == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{}", "smoll.yml:3:35: config needs a client with a base_url"),
        ("{client: {base_url: 'http://h'}}", "config needs a list of resources"),
        ("{client: {base_url: 'http://h'}, resources: [{path: x}]}", "every resource needs a name"),
        ("{client: {base_url: 'http://h'}, resources: [a, a]}", "a resource is named twice: a"),
        ("5", "expected a mapping"),
    ],
)
def test_what_smoll_needs_of_the_configuration_is_checked_with_its_place(
    make_project: MakeProject, config: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_project(f"\nsources: {{s: {{kind: rest, config: {config}}}}}\n")
    assert said in str(caught.value)


def test_options_for_a_resource_that_is_not_there_are_refused(make_project: MakeProject, api: Api) -> None:
    with pytest.raises(ConfigError, match="there is no resource 'post' in config"):
        make_project(yml(api, "posts", streams={"post": {}}))


def test_a_server_that_is_not_there(make_project: MakeProject) -> None:
    with serving(lambda asked: Answer([])) as api:
        text = yml(api, "posts")
    project = make_project(text, {".dlt/config.toml": "[runtime]\nrequest_max_attempts = 1"})
    assert f"s.posts: cannot connect to {api.url}/posts" in failure(project)


def test_check_says_what_there_is_and_asks_the_server_nothing(make_project: MakeProject, api: Api) -> None:
    project = make_project(yml(api, "posts", "comments"))
    (finding,) = [each for each in project.check() if each.topic == "source s"]
    assert (finding.level, finding.message) == ("ok", "2 resources, 2 streams")
    assert api.asked == []
