"""A run's description tells of its health, below what the user has written there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest

from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink
from tests.bridges._alerts import end, judged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rldk.bridge import Home
    from rldk.event import Event

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("mlflow_db")]

NOTE = "mlflow.note.content"
BEGIN, END = "<!-- rldk:health -->", "<!-- /rldk:health -->"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The page that RLDK writes at the end."""
    path = tmp_path / "fox_report.html"
    path.write_text("<p>All is well</p>")
    return path


def ended(run: Event, last: Event, *files: Path) -> Home:
    """Deliver a run that has only its beginning and its end."""
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([last])
    sink.close("FINISHED", files)
    return home


def note_of(home: Home) -> str:
    """The run's description."""
    return mlflow.MlflowClient().get_run(home.run_id).data.tags.get(NOTE, "")


def test_it_tells_the_verdict_the_rules_and_where_the_report_is(
    run: Event, event: Callable[..., Event], report: Path
) -> None:
    """What fires comes first; what never spoke is left out; without a server the artifact is named."""
    rules = [
        judged("stall", "ok", "critical", reason="steps take 4 s"),
        judged("loss_spike", "ok", None),
        judged("value_loss", "ok", reason="", last_step=110),
        judged("kl_drift", reason="<b>KL</b>\nis high"),
    ]
    last = end(event, 1, *rules, verdict="critical", stopped_by="stall@160")
    assert note_of(ended(run, last, report)).split("\n") == [
        BEGIN,
        "**RLDK health: critical**, stopped by stall@160 · the report is the artifact `rldk/fox_report.html`",
        "",
        "- **warning** Kl drift (`kl_drift`), firing, first at step 110: &lt;b&gt;KL&lt;/b&gt; is high",
        "- **critical** Stall (`stall`), over, steps 110 to 160; now: steps take 4 s",
        "- **warning** Value loss (`value_loss`), over, step 110",
        END,
    ]


def test_on_a_server_it_links_to_the_page_of_the_report(
    run: Event, event: Callable[..., Event], report: Path, mlflow_server: str
) -> None:
    """The link is the one that the UI itself gives an artifact, whatever address the UI has."""
    home = ended(run, end(event, 1), report)
    page = f"#/experiments/0/runs/{home.run_id}/artifacts/rldk/fox_report.html"
    assert f"[Open the report]({page}?workflowType=machine_learning)" in note_of(home)
    assert home.url == f"{mlflow_server}/{page.partition('/artifacts')[0]}"


def test_without_a_report_there_is_no_link(run: Event, event: Callable[..., Event], tmp_path: Path) -> None:
    """A file that is not there is not linked to."""
    home = ended(run, end(event, 1), tmp_path / "gone_report.html")
    assert note_of(home) == f"{BEGIN}\n**RLDK health: ok**\n{END}"


def test_a_block_that_somebody_emptied_is_left_so(
    run: Event, event: Callable[..., Event], report: Path
) -> None:
    """There is nothing to link any more."""
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([end(event, 1)])
    mlflow.MlflowClient().set_tag(home.run_id, NOTE, f"mine {BEGIN}{END}")
    sink.close("FINISHED", [report])
    assert note_of(home) == f"mine {BEGIN}{END}"


def test_a_close_that_is_repeated_links_once(run: Event, event: Callable[..., Event], report: Path) -> None:
    """As after an answer that got lost; also by another process, which has not seen the end."""
    home = ended(run, end(event, 1), report)
    again = MLflowSink.create()
    again.open(run)
    again.close("FINISHED", [report])
    assert note_of(home).count("the report is the artifact") == 1


def test_what_the_user_wrote_stays(run: Event, event: Callable[..., Event], report: Path) -> None:
    """A run that is resumed replaces RLDK's block alone, wherever the user has moved it."""
    home = ended(run, end(event, 1, judged(), verdict="warning"), report)
    mine = f"# Mine\n\n{note_of(home)}\n\nand {BEGIN} more"
    mlflow.MlflowClient().set_tag(home.run_id, NOTE, mine)
    resumed = event(2, kind="run", step=10, model_info={"segment": 1, "notes": "what the script says"})
    ended(resumed, end(event, 3), report)
    head, _, tail = note_of(home).partition("**RLDK health: ok**")
    assert head == f"# Mine\n\n{BEGIN}\n"
    assert tail.endswith(f"{END}\n\nand {BEGIN} more")
    assert "warning" not in tail


def test_the_script_s_own_note_stays_and_is_read_back_alone(event: Callable[..., Event]) -> None:
    """The run's notes are what they were."""
    run = event(kind="run", model_info={"notes": "# A try\n\nwith seed 3\n"})
    home = ended(run, end(event, 1))
    assert note_of(home).startswith(f"# A try\n\nwith seed 3\n\n\n{BEGIN}")
    assert next(MLflowAdapter(home.source).events()).model_info["notes"] == "# A try\n\nwith seed 3\n"


def test_a_note_that_a_later_segment_tells_is_told(run: Event, event: Callable[..., Event]) -> None:
    """A description that is all RLDK's does not keep the script's from its place."""
    home = ended(run, end(event, 1))
    ended(event(2, kind="run", model_info={"segment": 1, "notes": "now"}), end(event, 3))
    assert note_of(home).startswith(f"now\n\n{BEGIN}")


def test_many_rules_are_cut_and_counted(run: Event, event: Callable[..., Event], report: Path) -> None:
    """The block is short enough to be read, and to leave room."""
    rules = [judged(f"rule_{n}", reason="x" * 900) for n in range(30)]
    note = note_of(ended(run, end(event, 1, *rules, verdict="warning"), report))
    assert len(note) < 5000
    assert f"- … and {30 - note.count('`rule_')} more\n" in note
    assert "the report is the artifact" in note


def test_where_there_is_no_room_nothing_is_told(event: Callable[..., Event], report: Path) -> None:
    """MLflow cuts at 8000 letters, and they are the user's."""
    run = event(kind="run", model_info={"notes": "x" * 7500})
    assert note_of(ended(run, end(event, 1, judged(), verdict="warning"), report)) == "x" * 7500
