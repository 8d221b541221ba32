"""Health rules of your own, one in Python and one in TOML; what they find is an alert everywhere.

python examples/custom_rule.py [FOLDER]
"""

import tiny
from trl import GRPOConfig, GRPOTrainer

import rldk
from rldk.event import Event
from rldk.health.rule import Rule, Verdict, firing, ok
from rldk.health.window import Window
from rldk.integrations.trl import RLDKCallback

IN_TOML = """
[[rule]]
name = "judge_broken"
when = "is_nan(judge_score)"
severity = "critical"
message = "the judge gave {judge_score}"
"""


class FewWords(Rule):
    """The policy says the same few words again and again."""

    name = "few_words"
    title = "Few words"
    reads = {"distinct_words": ""}
    advice = "raise the temperature, or beta"

    def judge(self, window: Window) -> Verdict:
        """Look at the newest batch."""
        now = window.series("distinct_words").latest
        return firing("warning", f"{now:.0f} distinct words", now=now) if now < 12 else ok()


def reward(completions: list[str], **_: object) -> list[float]:
    """Score the completions; the judge breaks now and then."""
    words = set(" ".join(completions).split())
    rldk.log({"distinct_words": len(words), "judge_score": float("nan") if "left" in words else 1.0})
    return tiny.reward(completions)


def tell(alert: Event) -> None:
    """Get each alert event, for a message to your team perhaps."""
    print(f"ALERT at step {alert.step}: {alert.notes[0]}")


folder = tiny.folder()
model, tokenizer = tiny.model(folder)
(folder / "rules.toml").write_text(IN_TOML)
callback = RLDKCallback(output_dir=folder / "rldk", rules=[FewWords(), folder / "rules.toml"], on_alert=tell)
args = GRPOConfig(output_dir=str(folder / "out"), **tiny.GRPO)
GRPOTrainer(model, reward, args, tiny.prompts(), processing_class=tokenizer, callbacks=[callback]).train()
print(f"\nOver a run that is over: rldk check {callback.journal_path} --rules {folder}/rules.toml")
