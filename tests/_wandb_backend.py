"""A stand-in of the W&B backend on loopback, to which the real wandb-core streams.

It speaks what wandb 0.31 asks for when a run is opened, resumed, streamed, finished and read through
`wandb.Api`: GraphQL at `/graphql`, the rows at `/files/.../file_stream`, uploads at `/storage`. What it
does not know it answers with a GraphQL error, which wandb takes as no more than a warning, and notes in
`unknown`. It proves nothing about the real server's own behaviour, such as sampling.

Rows are lines of text at offsets, as wandb-core sends them: a repeated post overwrites itself.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

ENTITY: Final = "rldk-test"
PROJECT: Final = "garden"
API_KEY: Final = "0" * 40


@dataclass
class StoredRun:
    """One run on the server.

    Attributes:
        entity: The user.
        project: The project's name.
        name: W&B's id of the run.
        lines: The history as wandb-core sent it: a line of JSON for each row, by its offset.
        state: `running`, `finished`, `failed`, or `crashed` by the server's own judgement, never here.
        posts: How often wandb-core has streamed something.
    """

    entity: str
    project: str
    name: str
    display_name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    lines: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    console: dict[int, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    exit_code: int | None = None
    posts: int = 0

    @property
    def id(self) -> str:
        """The server's own id, as opaque to wandb as the real one."""
        return base64.b64encode(f"Run:v1:{self.name}:{self.project}:{self.entity}".encode()).decode()

    def rows(self) -> list[dict[str, Any]]:
        """The history, read."""
        return [json.loads(line) for line in self.lines]


@dataclass
class Fault:
    """What goes wrong with one kind of request, some times or for ever."""

    status: int | None = None
    retry_after_s: float | None = None
    is_cut: bool = False
    released: threading.Event | None = None
    times: float = math.inf


class Faults:
    """What is to go wrong, and where.

    `where` is `graphql`, `file_stream`, `storage`, or the name of one GraphQL operation, such as
    `UpsertBucket`. A later fault at the same place replaces the earlier one; `times` counts requests.
    """

    def __init__(self) -> None:
        self._at: dict[str, Fault] = {}
        self._lock = threading.Lock()

    def answer(
        self, where: str, status: int, *, times: float = math.inf, retry_after_s: float | None = None
    ) -> None:
        """Answer with this status, and do nothing: 500, 429 with a pause to ask for, 401."""
        self._set(where, Fault(status=status, times=times, retry_after_s=retry_after_s))

    def hang(self, where: str, *, times: float = math.inf) -> None:
        """Take requests and never answer, until `clear`."""
        self._set(where, Fault(released=threading.Event(), times=times))

    def cut(self, where: str, *, times: float = math.inf) -> None:
        """Do what is asked, then break the connection in the middle of the answer."""
        self._set(where, Fault(is_cut=True, times=times))

    def clear(self) -> None:
        """Heal everything; what hangs is let go."""
        with self._lock:
            for fault in self._at.values():
                fault.released and fault.released.set()
            self._at.clear()

    def due(self, *places: str) -> Fault:
        """The fault that the next request meets at the first of these places that has one."""
        with self._lock:
            for fault in filter(None, map(self._at.get, places)):
                if fault.times > 0:
                    fault.times -= 1
                    return fault
        return Fault()

    def _set(self, where: str, fault: Fault) -> None:
        with self._lock:
            self._at[where] = fault


class WandbBackend:
    """The server, and what it was sent.

    Attributes:
        port: Where it listens, the same after `down` and `up`.
        faults: What goes wrong.
        runs: Each run by its entity, project and W&B id.
        operations: The names of the GraphQL operations that were asked for, in order.
        unknown: The names of those that it does not know, and other addresses.
    """

    def __init__(self) -> None:
        self.port = 0
        self.faults = Faults()
        self.runs: dict[tuple[str, str, str], StoredRun] = {}
        self.operations: list[str] = []
        self.unknown: list[str] = []
        self.lock = threading.RLock()
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """Its address, for WANDB_BASE_URL."""
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Listen, on the port of before."""
        if self._server is None:
            self._server = _Server(self.port, self)
            self.port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and break those that are open; what was stored stays, faults do not."""
        server, self._server = self._server, None
        self.faults.clear()
        if server is not None:
            server.shutdown()
            server.server_close()
            server.break_connections()

    def run(self, run_id: str) -> StoredRun:
        """The one run that has this W&B id.

        Raises:
            KeyError: There is none.
        """
        with self.lock:
            found = next((run for run in self.runs.values() if run.name == run_id), None)
        if found is None:
            raise KeyError(run_id)
        return found

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """The rows of a run, in the order of their offsets; none where there is no such run."""
        with self.lock:
            return [row for run in self.runs.values() if run.name == run_id for row in run.rows()]

    def environment(self, folder: object) -> dict[str, str]:
        """What makes wandb talk to this server, and write below one folder only."""
        places = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "HOME")
        quiet = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_MODE": "online"}
        here = {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": API_KEY, "WANDB_PROJECT": PROJECT}
        return dict.fromkeys(places, str(folder)) | quiet | here


def forget_wandb() -> None:
    """End wandb-core: its files are complete, and the next run takes its settings from the environment."""
    if "wandb" in sys.modules:
        with suppress(ConnectionResetError):  # it has been killed
            sys.modules["wandb"].teardown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, port: int, backend: WandbBackend) -> None:
        self.backend = backend
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours."""

    def break_connections(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16  # headers and body in one write, else each answer costs 40 ms of delayed ACK
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def _handle(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        if path == "/graphql":
            self._graphql(json.loads(body))
        elif found := re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path):
            self._file_stream(found.groups(), json.loads(body))
        elif found := re.fullmatch(r"/storage/([^/]+)/([^/]+)/([^/]+)/(.+)", path):
            self._storage(found.groups(), body)
        else:
            self.server.backend.unknown.append(f"{self.command} {path}")
            self._answer(404, {"error": "unknown path"}, Fault())

    do_GET = do_POST = do_PUT = do_HEAD = _handle  # noqa: N815  # the names that http.server looks for

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b"".join(self._chunks())
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _chunks(self) -> Any:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _graphql(self, asked: dict[str, Any]) -> None:
        query, variables = asked.get("query", ""), asked.get("variables") or {}
        named = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
        operation = named[1] if named else "?"
        backend = self.server.backend
        backend.operations.append(operation)
        fault = backend.faults.due(operation, "graphql")
        if self._fails(fault):
            return
        answer = _ANSWERS.get(operation)
        if answer is None:
            backend.unknown.append(operation)
            message = f"the stand-in knows no {operation}"
            self._answer(200, {"data": None, "errors": [{"message": message}]}, fault)
            return
        with backend.lock:
            data = answer(backend, variables)
        self._answer(200, {"data": data}, fault)

    def _file_stream(self, key: Any, posted: dict[str, Any]) -> None:
        backend = self.server.backend
        fault = backend.faults.due("file_stream")
        if self._fails(fault):
            return
        with backend.lock:
            _store(backend.runs.setdefault(key, StoredRun(*key)), posted)
        self._answer(200, {"exitcode": None, "limits": {}}, fault)

    def _storage(self, named: Any, body: bytes) -> None:
        backend = self.server.backend
        fault = backend.faults.due("storage")
        if self._fails(fault):
            return
        *key, name = named
        run = backend.runs.get(tuple(key))
        if run is not None and self.command == "PUT":
            run.files[name] = body
            self._answer(200, {}, fault)
        else:
            self._answer(404, {"error": "no such file"}, fault)

    def _fails(self, fault: Fault) -> bool:
        if fault.released is not None:
            fault.released.wait()
            self.close_connection = True
        elif fault.status is not None:
            self._answer(fault.status, {"error": "a fault of the test"}, fault)
        return fault.released is not None or fault.status is not None

    def _answer(self, status: int, answer: Any, fault: Fault) -> None:
        body = json.dumps(_strict(answer), allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if fault.retry_after_s is not None:
            self.send_header("Retry-After", str(fault.retry_after_s))
        self.end_headers()
        self.close_connection |= fault.is_cut
        self.wfile.write(body[: len(body) // 2] if fault.is_cut else body)
        self.wfile.flush()


def _store(run: StoredRun, posted: dict[str, Any]) -> None:
    run.posts += 1
    for name, part in (posted.get("files") or {}).items():
        offset, lines = part["offset"], part["content"]
        if name == "wandb-history.jsonl":
            run.lines[offset : offset + len(lines)] = lines
        elif name == "wandb-events.jsonl":
            run.events[offset : offset + len(lines)] = lines
        elif name == "wandb-summary.json":
            run.summary = json.loads(lines[-1])
        else:
            run.console |= {offset + i: line for i, line in enumerate(lines)}
    if posted.get("complete"):
        run.exit_code = posted.get("exitcode")
        run.state = "failed" if run.exit_code else "finished"


def _strict(value: Any) -> Any:
    """JSON has no NaN: the real API is documented to give text in its place."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    return [_strict(inner) for inner in value] if isinstance(value, list) else value


# What GraphQL is asked for: the answer of each operation, as far as wandb reads it.

_USER: Final = {
    "__typename": "User",
    "id": "VXNlcjox",
    "entity": ENTITY,
    "username": "tester",
    "name": "tester",
    "email": "tester@example.com",
    "admin": False,
    "flags": "{}",
    "deletedAt": None,
    "apiKeys": {"edges": []},
    "teams": {"edges": []},
}


def _viewer(_: WandbBackend, __: dict[str, Any]) -> Any:
    return {"viewer": _USER}


def _features(_: WandbBackend, __: dict[str, Any]) -> Any:
    return {"serverInfo": {"features": []}}


def _server_info(_: WandbBackend, __: dict[str, Any]) -> Any:
    return {"serverInfo": {"cliVersionInfo": {"max_cli_version": "99.0.0"}, "latestLocalVersionInfo": None}}


def _organization(_: WandbBackend, __: dict[str, Any]) -> Any:
    return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}


def _upsert(backend: WandbBackend, asked: dict[str, Any]) -> Any:
    run, is_new = _upserted(backend, asked)
    run.config = json.loads(asked["config"]) if asked.get("config") else run.config
    run.summary = json.loads(asked["summaryMetrics"]) if asked.get("summaryMetrics") else run.summary
    run.display_name = asked.get("displayName") or run.display_name
    run.tags = asked["tags"] if asked.get("tags") is not None else run.tags
    run.notes = asked.get("notes") or run.notes
    run.state = asked.get("state") or ("running" if not asked.get("id") else run.state)
    return {"upsertBucket": {"bucket": _bucket(run), "inserted": is_new}}


def _upserted(backend: WandbBackend, asked: dict[str, Any]) -> tuple[StoredRun, bool]:
    if asked.get("id"):
        _, _, name, project, entity = base64.b64decode(asked["id"]).decode().split(":")
        return backend.runs[entity, project, name], False
    key = (asked.get("entity") or ENTITY, asked.get("project") or "uncategorized", asked["name"])
    is_new = key not in backend.runs
    return backend.runs.setdefault(key, StoredRun(*key)), is_new


def _bucket(run: StoredRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "displayName": run.display_name or run.name,
        "description": None,
        "config": json.dumps(run.config),
        "sweepName": None,
        "project": _project(run.entity, run.project),
        "historyLineCount": len(run.lines),
        "tags": run.tags,
        "notes": run.notes,
        "group": None,
        "jobType": None,
        "state": run.state,
    }


def _project(entity: str, project: str) -> dict[str, Any]:
    return {"id": "UHJvajox", "name": project, "entity": {"id": "RW50OjE=", "name": entity}}


def _resume_status(backend: WandbBackend, asked: dict[str, Any]) -> Any:
    entity, project = asked.get("entity") or ENTITY, asked.get("project") or "uncategorized"
    run = backend.runs.get((entity, project, asked["name"]))
    bucket = None if run is None else _bucket(run) | _tails(run)
    return {"model": _project(entity, project) | {"bucket": bucket}}


def _tails(run: StoredRun) -> dict[str, Any]:
    return {
        "summaryMetrics": json.dumps(_strict(run.summary)),
        "logLineCount": len(run.console),
        "eventsLineCount": len(run.events),
        "historyTail": json.dumps(run.lines[-1:]),
        "eventsTail": json.dumps(run.events[-1:]),
        "wandbConfig": json.dumps({"t": 1}),
    }


def _create_files(backend: WandbBackend, asked: dict[str, Any]) -> Any:
    place = f"{backend.url}/storage/{asked['entity']}/{asked['project']}/{asked['run']}"
    files = [{"name": name, "uploadUrl": f"{place}/{name}"} for name in asked["files"]]
    return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}


def _stopped(_: WandbBackend, __: dict[str, Any]) -> Any:
    return {"project": {"run": {"stopped": False}}}


def _uploaded(_: WandbBackend, __: dict[str, Any]) -> Any:
    return {"markRunFilesUploaded": {"success": True}}


def _alert(_: WandbBackend, __: dict[str, Any]) -> Any:
    return {"notifyScriptableRunAlert": {"success": True}}


def _asked_run(backend: WandbBackend, asked: dict[str, Any]) -> StoredRun | None:
    name = asked.get("run") or asked.get("runName") or asked.get("name") or ""
    return backend.runs.get((asked.get("entity") or ENTITY, asked["project"], name))


def _run(backend: WandbBackend, asked: dict[str, Any]) -> Any:
    run = _asked_run(backend, asked)
    return {"project": {"run": None if run is None else _node(run)}}


def _runs(backend: WandbBackend, asked: dict[str, Any]) -> Any:
    """One page of a project's runs, those that began first first; nothing of a project without any."""
    whose = (asked.get("entity") or ENTITY, asked["project"])
    found = [run for key, run in backend.runs.items() if key[:2] == whose]
    if not found:
        return {"project": None}
    begin = int(asked.get("cursor") or 0)
    end = begin + (asked.get("perPage") or 50)
    edges = [{"node": _node(run), "cursor": str(i + 1)} for i, run in enumerate(found)][begin:end]
    page = {"edges": edges, "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(found)}}
    told = {"internalId": "1", "runCount": len(found), "readOnly": False, "runs": page}
    return {"project": _project(*whose) | told}


def _node(run: StoredRun) -> dict[str, Any]:
    told = {
        "projectId": "1",
        "systemMetrics": "{}",
        "summaryMetrics": json.dumps(_strict(run.summary)),
        "config": json.dumps(_strict(run.config)),
        "wandbConfig": json.dumps(_strict(run.config)),
        "commit": None,
        "readOnly": False,
        "createdAt": "2026-01-01T00:00:00Z",
        "heartbeatAt": "2026-01-01T00:00:00Z",
        "user": _USER,
        "historyKeys": _history_keys(run),
    }
    return _bucket(run) | told


def _history_keys(run: StoredRun) -> dict[str, Any]:
    rows = run.rows()
    names = {name for row in rows for name in row}
    counted = {"typeCounts": [{"type": "number", "count": 1}], "monotonic": False, "previousValue": 0}
    last = max((row.get("_step", 0) for row in rows), default=-1)
    return {"keys": dict.fromkeys(names, counted), "lastStep": last, "sets": []}


def _keys_of_history(backend: WandbBackend, asked: dict[str, Any]) -> Any:
    run = _asked_run(backend, asked)
    return {"project": {"run": None if run is None else {"historyKeys": _history_keys(run)}}}


def _parquet(backend: WandbBackend, asked: dict[str, Any]) -> Any:
    run = _asked_run(backend, asked)
    live = [{"_step": row["_step"]} for row in (run.rows() if run else [])[:1]]
    return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}


def _history_page(backend: WandbBackend, asked: dict[str, Any]) -> Any:
    run = _asked_run(backend, asked)
    steps = range(asked["minStep"], asked["maxStep"])
    lines = [line for line in (run.lines if run else []) if json.loads(line).get("_step", 0) in steps]
    strict = [json.dumps(_strict(json.loads(line))) for line in lines[: asked["pageSize"]]]
    return {"project": {"run": {"history": strict}}}


_ANSWERS: Final = {
    "Viewer": _viewer,
    "GetViewer": _viewer,
    "GetDefaultEntity": _viewer,
    "ServerFeaturesQuery": _features,
    "ServerInfo": _server_info,
    "OrganizationCoreWeaveOrganizationID": _organization,
    "UpsertBucket": _upsert,
    "RunResumeStatus": _resume_status,
    "CreateRunFiles": _create_files,
    "RunStoppedStatus": _stopped,
    "MarkRunFilesUploaded": _uploaded,
    "NotifyScriptableRunAlert": _alert,
    "Run": _run,
    "LightRuns": _runs,
    "Runs": _runs,
    "RunHistoryKeys": _keys_of_history,
    "RunParquetHistory": _parquet,
    "HistoryPage": _history_page,
}
