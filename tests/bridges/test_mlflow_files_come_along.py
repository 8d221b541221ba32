"""A run's artifacts can be fetched, and given to another run."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.entities import FileInfo

from rldk.bridge import Target
from rldk.errors import SourceError
from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rldk.event import Event


@pytest.fixture
def made(tmp_path: Path) -> list[Path]:
    """A report, and a checkpoint with a folder in it."""
    (tmp_path / "out" / "checkpoint-5" / "inner").mkdir(parents=True)
    (tmp_path / "out" / "report.html").write_text("report")
    (tmp_path / "out" / "checkpoint-5" / "model.bin").write_text("weights")
    (tmp_path / "out" / "checkpoint-5" / "inner" / "state.json").write_text("{}")
    return [tmp_path / "out" / "report.html", tmp_path / "out" / "checkpoint-5"]


@pytest.fixture(params=["mlflow_db", "mlflow_server"])
def store(request: pytest.FixtureRequest) -> str:
    """A database whose artifacts are on this disk, and a server that hands them out."""
    return str(request.getfixturevalue(request.param))


def contents(paths: list[Path]) -> dict[str, str]:
    """What the files and folders hold, by their path below where they lie."""
    files = {p.relative_to(top.parent): p for top in paths for p in [top, *top.rglob("*")] if p.is_file()}
    return {str(name): file.read_text() for name, file in files.items()}


def test_folders_come_whole_and_rldks_files_as_files(
    run: Event, event: Callable[..., Event], made: list[Path], store: str, tmp_path: Path
) -> None:
    """What close uploads is what files gives, so that another close uploads the same."""
    into = tmp_path / "into"
    into.mkdir()
    sink = MLflowSink.create(Target(project="originals"))
    home = sink.open(run)
    sink.close("FINISHED", made)
    fetched = MLflowAdapter(home.source).files(into)
    assert [path.name for path in fetched] == ["checkpoint-5", "report.html", "run_0.json"]
    expected = contents(made)
    assert {name: text for name, text in contents(fetched).items() if name != "run_0.json"} == expected
    is_here = store.startswith("sqlite")
    assert all(path.is_relative_to(into) for path in fetched) is not is_here

    second = MLflowSink.create(Target(project="copies"))
    copy = second.open(event(kind="run", model_info={"run_id": "copy", "config": {"seed": "1"}}))
    second.close("FINISHED", fetched)
    (tmp_path / "again").mkdir()
    assert contents(MLflowAdapter(copy.source).files(tmp_path / "again")) == contents(fetched)


@pytest.mark.usefixtures("store")
def test_a_run_without_files_gives_none(run: Event, tmp_path: Path) -> None:
    """That is no error."""
    home = MLflowSink.create().open(run)
    (tmp_path / "into").mkdir()
    assert MLflowAdapter(home.source).files(tmp_path / "into") == []


def test_an_experiment_has_no_files(mlflow_db: str, tmp_path: Path) -> None:
    """Only a run has."""
    with pytest.raises(SourceError, match="give one of its runs"):
        MLflowAdapter(f"{mlflow_db}#experiments/0").files(tmp_path)


@pytest.mark.usefixtures("mlflow_server")
def test_files_of_an_unknown_run_are_an_error(tmp_path: Path) -> None:
    """As its events are."""
    with pytest.raises(SourceError, match=r"feed.*not found"):
        MLflowAdapter("runs:/feed").files(tmp_path)


def test_a_close_that_is_repeated_uploads_only_what_is_missing(
    run: Event, made: list[Path], mlflow_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint of gigabytes is not sent again because a later file failed."""
    assert mlflow_db
    sink = MLflowSink.create()
    sink.open(run)
    sent: list[str] = []
    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", lambda *a: sent.append(Path(a[2]).name))

    def fail(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(mlflow.MlflowClient, "log_artifact", fail)
        with pytest.raises(ConnectionError):
            sink.close("FINISHED", made[::-1])
    sink.close("FINISHED", made[::-1])
    assert sent == ["checkpoint-5"]


class Liar(BaseHTTPRequestHandler):
    """A server whose run has an artifact with a path that leads out of the folder."""

    path_of_artifact = ""
    uri = "mlflow-artifacts:/0/feed/artifacts"

    def do_GET(self) -> None:
        """Tell of the run, of its artifact, and give the artifact."""
        if "runs/get" in self.path:
            info = {"run_id": "feed", "run_uuid": "feed", "experiment_id": "0", "artifact_uri": self.uri}
            info |= {"lifecycle_stage": "active", "status": "RUNNING", "start_time": 1}
            body = json.dumps({"run": {"info": info, "data": {}}})
        elif "path=" in self.path:
            body = json.dumps({"files": [{"path": self.path_of_artifact, "is_dir": False, "file_size": 4}]})
        else:
            body = "evil"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def liar() -> Iterator[str]:
    """Its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "..", "a/../..", "%2e%2e/evil"])
def test_no_artifact_is_written_outside_the_folder(
    liar: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is not to be trusted cannot write where it likes."""
    monkeypatch.setattr(Liar, "path_of_artifact", path)
    (tmp_path / "into").mkdir()
    with pytest.raises(SourceError):
        MLflowAdapter(f"{liar}#runs/feed").files(tmp_path / "into")
    assert [p.name for p in tmp_path.iterdir()] == ["into"]


@pytest.mark.parametrize("inner", ["a/../../evil", "evil", "/evil", "a/..", "a"])
def test_nor_from_within_a_folder(
    liar: str, inner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every kind of artifact store of every MLflow looks at what it is told."""
    lies = {None: [FileInfo("a", is_dir=True, file_size=None)]}
    lie = [FileInfo(inner, is_dir=False, file_size=4)]
    monkeypatch.setattr(mlflow.MlflowClient, "list_artifacts", lambda _, __, path=None: lies.get(path, lie))
    with pytest.raises(SourceError, match="outside its folder; rename"):
        MLflowAdapter(f"{liar}#runs/feed").files(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_cannot_name_any_folder_of_this_machine(
    liar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a copy of the run would hand them to another tracker."""
    (tmp_path / "keys").write_text("secret")
    monkeypatch.setattr(Liar, "uri", f"file://{tmp_path}")
    with pytest.raises(SourceError, match="no folder of this run"):
        MLflowAdapter(f"{liar}#runs/feed").files(tmp_path)


def test_the_liar_is_believed_otherwise(liar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that stays inside is fetched: the refusals above are for the path alone."""
    monkeypatch.setattr(Liar, "path_of_artifact", "good.txt")
    [file] = MLflowAdapter(f"{liar}#runs/feed").files(tmp_path)
    assert (file, file.read_text()) == (tmp_path / "good.txt", "evil")
