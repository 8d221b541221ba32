"""What a run event tells is shown by the MLflow run, and never costs a metric."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import mlflow
import pytest

from rldk.event import decode
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from rldk.bridge import Home
    from rldk.event import Event

pytestmark = pytest.mark.usefixtures("mlflow_db")

LONG = "x" * 9000


def shown(home: Home) -> Any:  # mlflow.entities.RunData is not typed
    """What MLflow shows of the run."""
    return mlflow.MlflowClient().get_run(home.run_id).data


def opened(run: Event) -> tuple[MLflowSink, Home]:
    """A sink whose run is open."""
    sink = MLflowSink.create()
    return sink, sink.open(run)


def test_config_becomes_params_under_its_own_names(event: Callable[..., Event]) -> None:
    """Nested ones get a dotted name; a copied `args/` name stays what it was."""
    config = {"lr": 0.1, "lora": {"r": 8, "on": ["q", "v"]}, "args/beta": "0.04", "none": None, "empty": ""}
    _, home = opened(event(kind="run", model_info={"config": config}))
    assert shown(home).params == {
        "lr": "0.1",
        "lora.r": "8",
        "lora.on": '["q", "v"]',
        "args/beta": "0.04",
        "none": "None",
        "empty": "",
    }


def test_tags_name_and_notes_are_shown(event: Callable[..., Event]) -> None:
    """The name is the run's, the notes are its description."""
    told = {
        "tags": {"team": "alignment", "odd (key)": 1, "empty": ""},
        "name": "kind-fox",
        "notes": "# A try",
    }
    _, home = opened(event(kind="run", model_info=told))
    tags = shown(home).tags
    assert {tags[key] for key in ("team", "odd _x0028_key_x0029_", "empty")} == {"alignment", "1", ""}
    assert (tags["mlflow.runName"], tags["mlflow.note.content"]) == ("kind-fox", "# A try")


def test_what_mlflow_or_rldk_has_set_is_not_overwritten(event: Callable[..., Event]) -> None:
    """A system tag that is absent is set, once; the rldk tags are those of this run."""
    told = {
        "tags": {"mlflow.runName": "other", "mlflow.user": "ann", "rldk.run_id": "other", "team": "b"},
        "notes": "new",
    }
    run = event(kind="run", model_info=told)
    with mlflow.start_run(tags={"mlflow.user": "bob", "mlflow.note.content": "mine", "team": "a"}):
        sink = MLflowSink.attach()
        assert sink is not None
        tags = shown(sink.open(run)).tags
    assert (tags["mlflow.user"], tags["mlflow.note.content"], tags["team"]) == ("bob", "mine", "b")
    assert (tags["rldk.run_id"], tags["mlflow.runName"] == "other") == (run.run_id, False)
    _, home = opened(event(kind="run", model_info=told | {"run_id": "another"}))
    assert shown(home).tags["mlflow.user"] == "ann"


def test_each_segment_that_is_sent_is_told(event: Callable[..., Event]) -> None:
    """A journal of several starts reaches the run as one that was watched from the beginning."""
    first = event(kind="run", model_info={"args": {"lr": 1.0}, "git_sha": "aaa"})
    second = event(5, kind="run", model_info={"args": {"lr": 2.0, "n": 1}, "segment": 1, "git_sha": "bbb"})
    sink, home = opened(second)
    journal = [
        first,
        event(1, step=1, metrics={"loss": 2.0}),
        second,
        event(6, step=1, metrics={"loss": 1.0}),
    ]
    for _ in range(2):
        sink.send(journal)
    sink.close("FINISHED", [])
    data = shown(home)
    assert {key for key in data.tags if key.startswith("rldk.segment.")} == {
        "rldk.segment.0",
        "rldk.segment.1",
    }
    assert (data.tags["rldk.git_sha"], data.params) == ("bbb", {"args/lr": "2.0", "args/n": "1"})
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(home.run_id, "rldk")}
    assert files == {"rldk/run_0.json", "rldk/run_1.json"}


def test_params_that_are_there_are_not_sent_again(
    event: Callable[..., Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run event that comes twice asks MLflow for nothing that it has."""
    run = event(kind="run", model_info={"config": {"lr": 1.0}})
    sink, _ = opened(run)
    sent: list[int] = []
    log = mlflow.MlflowClient.log_batch
    monkeypatch.setattr(
        mlflow.MlflowClient,
        "log_batch",
        lambda *asked, **told: (sent.append(len(told.get("params", ()))), log(*asked, **told)),
    )
    sink.send([event(3, kind="run", model_info={"config": {"lr": 1.0}})])
    assert sent == [0]


def test_a_param_that_somebody_else_sets_meanwhile_costs_nothing(
    event: Callable[..., Event], caplog: pytest.LogCaptureFixture
) -> None:
    """The other params, the tags and the metrics arrive; the one that does not is named."""
    sink, home = opened(event(kind="run"))
    mlflow.MlflowClient().log_param(home.run_id, "lr", "mine")
    resumed = event(5, kind="run", model_info={"config": {"lr": 1, "n": 2}, "segment": 1})
    with caplog.at_level(logging.WARNING, "rldk_mlflow"):
        sink.send([resumed, event(6, step=1, metrics={"loss": 1.0})])
    data = shown(home)
    assert data.params == {"lr": "mine", "n": "2"}
    assert ("rldk.segment.1" in data.tags, data.metrics["rldk/loss"]) == (True, 1.0)
    assert caplog.records == []  # lr is there: that it says another value is what immutable means


def test_a_param_that_mlflow_refuses_is_named(
    event: Callable[..., Event], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason, the others arrive, and it is not tried again."""
    sink, home = opened(event(kind="run"))
    monkeypatch.setattr("mlflow.utils.validation.MAX_PARAM_VAL_LENGTH", 10)
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")
    resumed = event(5, kind="run", model_info={"config": {"long": "x" * 11, "n": 2}, "segment": 1})
    with caplog.at_level(logging.WARNING, "rldk_mlflow"):
        for _ in range(2):
            sink.send([resumed, event(6, step=1, metrics={"loss": 1.0})])
    assert shown(home).params == {"n": "2"}
    assert [record.getMessage().split(": ")[2] for record in caplog.records] == [
        "long; rldk/run_<segment>.json holds them"
    ]


def test_what_is_too_long_is_cut_visibly_and_whole_in_the_file(
    event: Callable[..., Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Params, tags, notes and the name; the params are named in a warning, once."""
    told = {"config": {"prompt": LONG, "lr": 1}, "tags": {"team": LONG}, "notes": LONG, "name": "n" * 300}
    run = event(kind="run", model_info=told)
    with caplog.at_level(logging.INFO, "rldk_mlflow"):
        sink, home = opened(run)
    sink.send([run])
    sink.close("FINISHED", [])
    data = shown(home)
    cut = (data.params["prompt"], data.tags["team"], data.tags["mlflow.note.content"])
    assert [len(text) for text in cut] == [6000, 8000, 8000]
    assert all(text.endswith("(whole in rldk/run_0.json)") for text in cut)
    assert len(data.tags["mlflow.runName"]) == 250
    [said] = [record.getMessage() for record in caplog.records]
    assert "prompt" in said
    assert decode(mlflow.artifacts.load_text(f"runs:/{home.run_id}/rldk/run_0.json").encode()) == run


def test_keys_that_are_too_long_stay_apart(event: Callable[..., Event]) -> None:
    """They are cut and given a hash, as names of metrics are."""
    keys = ["k" * 300 + tail for tail in "ab"]
    told = {"config": dict.fromkeys(keys, 1), "tags": dict.fromkeys(keys, 1)}
    _, home = opened(event(kind="run", model_info=told))
    data = shown(home)
    assert [len(key) for key in data.params] == [250, 250]
    assert len([key for key in data.tags if key.startswith("kkk")]) == 2


def test_text_that_utf8_cannot_hold_arrives(event: Callable[..., Event]) -> None:
    """A file name of raw bytes stops no delivery."""
    told = {"config": {"path": "a\udcff"}, "tags": {"path": "a\udcff"}, "name": "a\udcff"}
    _, home = opened(event(kind="run", model_info=told))
    data = shown(home)
    assert (data.params["path"], data.tags["path"], data.tags["mlflow.runName"]) == ("a?", "a?", "a?")


@pytest.mark.usefixtures("mlflow_server")
def test_any_number_of_params_and_tags_fits(event: Callable[..., Event]) -> None:
    """MLflow takes a hundred of each a request, and a server no other."""
    many = {f"k{n}": "" if n % 2 else str(n) for n in range(250)}
    _, home = opened(event(kind="run", model_info={"config": many, "tags": many}))
    data = shown(home)
    assert data.params == many
    assert many.items() <= data.tags.items()
