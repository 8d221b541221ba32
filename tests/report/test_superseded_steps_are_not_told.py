"""Of a run that was started again, what led to its present state is told."""

from __future__ import annotations

from rldk.report.story import Story
from tests.report._runs import alert, event


def resumed(*, firing=()):
    """Six steps with an alert at 3 and 5, and a checkpoint each second step; then again from step 4."""
    yield event("run", 0, trainer="GRPO")
    for step in range(1, 7):
        yield event("metrics", step, {"kl_mean": 1.0, "only_before": 1.0} if step > 4 else {"kl_mean": 1.0})
        if step in {3, 5}:
            yield alert(step, rule=f"rule_{step}")
        if step % 2 == 0:
            yield event("checkpoint", step, {"size_bytes": step}, checkpoint=f"checkpoint-{step}")
    yield event("end", 6, status="FAILED", health={"verdict": "warning"})
    yield event("run", 4, segment=1, trainer="GRPO")
    for step in range(5, 9):
        yield event("metrics", step, {"kl_mean": 2.0}, segment=1)
    yield event("checkpoint", 8, {"size_bytes": 8}, segment=1, checkpoint="checkpoint-8")
    health = {"verdict": "warning", "firing": list(firing), "rules": []}
    yield event("end", 8, segment=1, status="FINISHED", health=health)


def test_metrics_alerts_and_checkpoints_of_superseded_steps_are_left_out():
    """As in the table."""
    story = Story.of(resumed())
    assert story.series("kl_mean").values.tolist() == [1.0] * 4 + [2.0] * 4
    assert [one.folder for one in story.checkpoints] == ["checkpoint-2", "checkpoint-4", "checkpoint-8"]
    assert [episode.id for episode in story.episodes] == ["rule_3@3"]
    assert story.names["train"] == ["kl_mean"]
    assert ([start.step for start in story.resumes], story.segments) == ([4], 2)


def test_an_alert_ends_with_a_start_after_which_it_does_not_fire():
    """The new start's rules begin anew, and do not say that it is over; the end does."""
    assert Story.of(resumed()).episodes[0].until_step == 4
    assert Story.of(resumed(firing=["rule_3"])).episodes[0].until_step is None


def test_the_end_of_an_earlier_start_is_none():
    """A run that went on has not ended."""
    events = list(resumed())
    story = Story.of(events[:-1])
    assert (story.end, story.health) == (None, None)


def test_an_evaluation_alone_supersedes_nothing():
    """It is a segment, but no training."""
    events = [event("metrics", step, {"kl_mean": 1.0}) for step in range(5)]
    events += [
        event("run", 0, segment=1, outside_training=True),
        event("metrics", 0, {"loss": 1.0}, phase="eval"),
    ]
    assert len(Story.of(events).steps()) == 5


def test_a_checkpoint_is_analysed_later():
    """Two events of one folder and step are one checkpoint."""
    first = event("checkpoint", 4, {"size_bytes": 9}, checkpoint="c")
    later = event("checkpoint", 4, {"nonfinite_count": 2}, checkpoint="c", analysis={"findings": []})
    (one,) = Story.of([first, later]).checkpoints
    assert (one.numbers, one.is_good, one.time) == (
        {"size_bytes": 9, "nonfinite_count": 2},
        False,
        first.time,
    )
