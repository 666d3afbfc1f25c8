"""What Dagster's page does with a project that `smoll up` serves, by the same GraphQL, and what it then knows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from up.running import running, wait_until

_LAUNCH = """mutation($given: ExecutionParams!) { launchPipelineExecution(executionParams: $given) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } }
} }"""
_RUN = """query($run: ID!) { runOrError(runId: $run) { ... on Run {
  id: runId status jobName parentRunId rootRunId steps: stepKeysToExecute tags { key value }
} } }"""
_RUNS = """query($tags: [ExecutionTag!]) { runsOrError(filter: {tags: $tags}) {
  ... on Runs { results { runId } }
} }"""
_EVENTS = """query($run: ID!, $after: String) { logsForRun(runId: $run, afterCursor: $after) { ... on EventConnection {
  cursor hasMore
  events {
    type: __typename
    ... on MessageEvent { message stepKey }
    ... on MaterializationEvent { assetKey { path } partition }
    ... on AssetCheckEvaluationEvent { evaluation { checkName success assetKey { path } } }
    ... on ExecutionStepFailureEvent { error { message causes { message } } }
  }
} } }"""
_ASSET = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  materializations: assetMaterializations { runId metadataEntries { ...facts } }
  observations: assetObservations { metadataEntries { ...facts } }
  days: assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } }
  checks: assetChecksOrError { ... on AssetChecks { checks { name
    last: executionForLatestMaterialization { status evaluation { success severity } }
  } } }
} } }
fragment facts on MetadataEntry { label
  ... on IntMetadataEntry { int: intValue } ... on TextMetadataEntry { text }
  ... on TimestampMetadataEntry { timestamp }
  ... on TableSchemaMetadataEntry { schema { columns { name type description } } }
}"""
_TERMINATE = """mutation($run: String!) { terminateRun(runId: $run) {
  __typename ... on TerminateRunFailure { message } ... on PythonError { message }
} }"""
_BACKFILL = """mutation($given: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $given) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
} }"""
_BACKFILL_STATUS = """query($backfill: String!) { partitionBackfillOrError(backfillId: $backfill) {
  ... on PartitionBackfill { status }
} }"""
_TICKS = """query($selector: InstigationSelector!) { instigationStateOrError(instigationSelector: $selector) {
  ... on InstigationState { ticks { status runIds } }
} }"""
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass
class Gate:
    """A turnstile in a web server: a page there is given only to whom the test lets through.

    So a run stands still in the midst of its load, for as long as the test likes.
    """

    closed: bool = False
    waiting: int = 0
    _change: threading.Condition = field(default_factory=threading.Condition)
    _passes: int = 0

    def __call__(self, handler: Any, earlier: int) -> bool:
        """The fault of a page: wait here, then answer."""
        with self._change:
            if handler.command == "GET" and self.closed:
                self.waiting += 1
                self._change.notify_all()
                self._change.wait_for(lambda: self._passes > 0 or not self.closed, 60)
                self._passes = max(0, self._passes - 1)
                self.waiting -= 1
        return False

    def let_one_through(self) -> None:
        """Whoever waits, or the next one to come."""
        with self._change:
            self._passes += 1
            self._change.notify_all()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Close it, and open it in the end."""
        self.closed = True
        try:
            yield
        finally:
            with self._change:
                self.closed, self._passes = False, 0
                self._change.notify_all()

    def wait_for_somebody(self, seconds: float = 60) -> None:
        with self._change:
            assert self._change.wait_for(lambda: self.waiting > 0, seconds), "nobody came"


@dataclass(frozen=True)
class Page:
    """Dagster's page of a project, on a port."""

    port: int
    project: str = "tests"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dagster"

    def launch(self, assets: Sequence[str] | None = None, job: str = "", tags: Mapping[str, str] | None = None) -> str:
        """Launch the assets (``a/b`` each), as "Materialize selected" does, or a job. Returns the run."""
        selector: dict[str, Any] = {**self._where(), "pipelineName": job or "__ASSET_JOB"}
        if assets is not None:
            selector["assetSelection"] = keys(assets)
        given = {
            "mode": "default",
            "selector": selector,
            "runConfigData": "{}",
            "executionMetadata": {"tags": _tags(tags or {})},
        }
        found = self._ask(_LAUNCH, {"given": given})["launchPipelineExecution"]
        assert "run" in found, found
        return str(found["run"]["runId"])

    def run(self, run: str) -> dict[str, Any]:
        found = dict(self._ask(_RUN, {"run": run})["runOrError"])
        return {**found, "tags": {tag["key"]: tag["value"] for tag in found["tags"]}}

    def status(self, run: str) -> str:
        return str(self.run(run)["status"])

    def runs(self, **tags: str) -> list[str]:
        """The runs with such tags, the newest first; ``__`` stands for ``/`` in their names."""
        wanted = _tags({key.replace("__", "/"): value for key, value in tags.items()})
        found = self._ask(_RUNS, {"tags": wanted or None})["runsOrError"]["results"]
        return [str(run["runId"]) for run in found]

    def end_of(self, run: str, seconds: float = 60) -> str:
        """Wait for the end of a run. Returns how it ended."""
        wait_until(lambda: self.status(run) in _ENDED, seconds)
        return self.status(run)

    def events(self, run: str) -> list[dict[str, Any]]:
        """All that the run's page shows."""
        found: list[dict[str, Any]] = []
        after, more = None, True
        while more:
            part = self._ask(_EVENTS, {"run": run, "after": after})["logsForRun"]
            found += part["events"]
            after, more = part["cursor"], part["hasMore"]
        return found

    def log(self, run: str) -> str:
        """What the run said, and why it failed."""
        lines = []
        for event in self.events(run):
            error = event.get("error") or {}
            causes = [cause["message"] for cause in error.get("causes", ())]
            lines += [event.get("message") or "", error.get("message") or "", *causes]
        return "\n".join(filter(None, lines))

    def materialized(self, run: str) -> list[str]:
        """The assets that a run made, in order."""
        events = self.events(run)
        return [name(event["assetKey"]) for event in events if event["type"] == "MaterializationEvent"]

    def checked(self, run: str) -> dict[str, bool]:
        """What the checks of a run said."""
        found = [event["evaluation"] for event in self.events(run) if event["type"] == "AssetCheckEvaluationEvent"]
        return {evaluation["checkName"]: bool(evaluation["success"]) for evaluation in found}

    def asset(self, key: str) -> dict[str, Any]:
        """What the page of an asset shows."""
        return dict(self._ask(_ASSET, {"key": keys([key])[0]})["assetNodeOrError"])

    def backfill(self, assets: Sequence[str], days: Sequence[str]) -> str:
        """Launch a backfill of days. Returns its name."""
        given = {"assetSelection": keys(assets), "partitionNames": list(days)}
        found = self._ask(_BACKFILL, {"given": given})["launchPartitionBackfill"]
        assert "backfillId" in found, found
        return str(found["backfillId"])

    def backfill_status(self, backfill: str) -> str:
        return str(self._ask(_BACKFILL_STATUS, {"backfill": backfill})["partitionBackfillOrError"]["status"])

    def ticks(self, trigger: str) -> list[dict[str, Any]]:
        """The ticks of a schedule or sensor, the newest first."""
        selector = {**self._where(), "name": trigger}
        return list(self._ask(_TICKS, {"selector": selector})["instigationStateOrError"]["ticks"])

    def terminate(self, run: str) -> None:
        found = self._ask(_TERMINATE, {"run": run})["terminateRun"]
        assert found["__typename"] == "TerminateRunSuccess", found

    def _ask(self, text: str, variables: Mapping[str, Any]) -> Any:
        """Ask in GraphQL, with patience: several suites may share the machine."""
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return found["data"]

    def _where(self) -> dict[str, str]:
        return {"repositoryLocationName": self.project, "repositoryName": "__repository__"}


def keys(names: Sequence[str]) -> list[dict[str, list[str]]]:
    """Asset keys as GraphQL takes them."""
    return [{"path": each.split("/")} for each in names]


def name(key: Mapping[str, Sequence[str]]) -> str:
    return "/".join(key["path"])


def facts(event: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a materialization or observation that are a number, a text, a time or columns."""
    found = {}
    for entry in event["metadataEntries"]:
        values = [value for key, value in entry.items() if key != "label"]
        found[entry["label"]] = values[0] if values else None
    return found


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


@contextmanager
def page_of(root: Path) -> Iterator[Page]:
    """Serve a project by `smoll up`, on a port that is free."""
    with running(root) as up:
        assert not up.ready["problem"], up.ready["problem"]
        yield Page(up.port)
