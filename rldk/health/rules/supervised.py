"""Does what is learnt hold on data that is not trained on?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rldk.health.robust import median
from rldk.health.rule import Evidence, Persistence, Rule, Verdict, firing, ok, units

if TYPE_CHECKING:
    from rldk.health.window import Window

_RISE: Final = 0.1
_RECENT: Final = 5


class Overfitting(Rule):
    """The loss rises on the evaluation's data while it falls on the training's."""

    name = "overfitting"
    title = "Overfitting"
    reads = units(loss="1")
    looks_at = ("train:loss",)
    part = "eval"
    trainers = ("SFT", "Reward", "DPO", "KTO")
    warm_up = 3
    persistence = Persistence(2, 2)
    cooldown = 5
    meaning = "the model learns its training data by heart"
    advice = (
        "stop at the checkpoint of the best evaluation (load_best_model_at_end), train fewer epochs, "
        "or add data"
    )
    source = "Prechelt: Early stopping, but when?, 1998 (doi:10.1007/3-540-49430-8_3)"

    def judge(self, window: Window) -> Verdict:
        """Evaluation's loss is a tenth above its best, and training's is no higher than it was then."""
        evaluated = window.series("loss", "eval").last_points(512)
        best = min(evaluated, key=lambda point: (point.value, point.step))
        now = evaluated[-1].value
        trained = window.series("loss").last_points(512)
        then = [point.value for point in trained if point.step <= best.step][-_RECENT:]
        lately = [point.value for point in trained if point.step > best.step][-_RECENT:]
        told = f"the evaluation's loss is {now:.4g}; the best was {best.value:.4g}, at step {best.step}"
        evidence: Evidence = {"eval_loss": now, "best_eval_loss": best.value, "best_step": best.step}
        if not then or not lately or now <= best.value + _RISE * abs(best.value):
            return ok(told, **evidence)
        evidence |= {"train_loss": median(lately), "train_loss_then": median(then)}
        if median(lately) > median(then):
            return ok(told, **evidence)  # the training's own loss rises, too: no overfitting
        return firing(
            "warning",
            f"{told}, since when the training's loss went from {median(then):.4g} to {median(lately):.4g}",
            **evidence,
        )
