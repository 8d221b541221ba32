"""Which metrics does a trainer's run come down to, and which of them belong into one plot?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_COMPONENTS: Final = "reward_components/"
_MOST_COMPONENTS: Final = 5

_LENGTHS: Final = ("completion_len_mean", "completion_terminated_len_mean")
_CLIPPING: Final = ("clip_frac", "clip_frac_low", "clip_frac_high")
_LAST: Final = (("loss",), ("grad_norm",), ("lr",))
_PREFERENCES: Final = (
    ("pref_accuracy",),
    ("reward_margin",),
    ("implicit_reward_chosen", "implicit_reward_rejected"),
    ("logp_chosen_seq_mean", "logp_rejected_seq_mean"),
)
_SAMPLED: Final = (
    ("reward_mean",),
    (_COMPONENTS,),
    ("reward_std",),
    ("reward_zero_std_frac",),
    ("reward_total_mean",),
    ("kl_mean",),
    ("entropy_mean",),
    _CLIPPING,
    *_LAST,
    _LENGTHS,
    ("completion_truncated_frac",),
    ("step_time",),
)
_PPO: Final = (
    ("reward_mean",),
    ("reward_total_mean",),
    ("kl_seq_mean",),
    ("entropy_mean",),
    ("clip_frac", "value_clip_frac"),
    ("ratio_mean",),
    ("approx_kl_update",),
    ("policy_loss",),
    ("value_loss",),
    *_LAST,
)
_REWARD: Final = (
    ("loss",),
    ("pref_accuracy",),
    ("score_margin",),
    ("reward_mean", "reward_min", "reward_max"),
    ("grad_norm",),
    ("lr",),
)
_SFT: Final = (("loss",), ("token_accuracy",), ("entropy_mean",), ("aux_loss",), ("grad_norm",), ("lr",))

PANELS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "GRPO": _SAMPLED,
    "RLOO": _SAMPLED,
    "PPO": _PPO,
    "DPO": (("loss",), *_PREFERENCES, ("token_accuracy",), ("entropy_mean",), ("grad_norm",), ("lr",)),
    "KTO": (("loss",), *_PREFERENCES, ("kl_reference_point",), ("grad_norm",), ("lr",)),
    "OnlineDPO": (
        ("reward_mean",),
        ("score_margin",),
        *_PREFERENCES,
        ("kl_seq_mean",),
        ("entropy_seq_mean",),
        *_LAST,
    ),
    "Reward": _REWARD,
    "SFT": _SFT,
}
"""For each trainer its plots, the most telling ones first; a name ending in `/` stands for a family."""

_ANY: Final = tuple(dict.fromkeys((*_SAMPLED, *_PPO, *_PREFERENCES, *_REWARD, *_SFT)))
_FEWEST: Final = 3
_MOST_OTHERS: Final = 12
_MOST: Final = 30


def panels(trainer: str, measured: Sequence[str], wanted: Iterable[str] = ()) -> list[tuple[str, ...]]:
    """Choose the plots of a run: lists of metrics that share an axis, and so a unit.

    Args:
        trainer: Short name of the trainer; for one that is not known, what any of them would show.
        measured: The metrics that there are.
        wanted: Metrics that need a plot all the same, such as those that alerts speak of.
    """
    told = _present(PANELS.get(trainer, _ANY), measured)
    shown = {name for panel in told for name in panel}
    others = [name for name in dict.fromkeys(wanted) if name in measured and name not in shown]
    if len(shown) < _FEWEST:  # a log of names that nobody knows
        others += [name for name in measured if name not in shown and name not in others][:_MOST_OTHERS]
    return [*told, *((name,) for name in others)][:_MOST]


def _present(chosen: Iterable[tuple[str, ...]], measured: Collection[str]) -> list[tuple[str, ...]]:
    there = [tuple(name for name in _spelled(panel, measured) if name in measured) for panel in chosen]
    shown: set[str] = set()
    told = []
    for panel in there:
        new = tuple(name for name in panel if name not in shown)
        shown.update(new)
        told += [new] if new else []
    return told


def _spelled(panel: tuple[str, ...], measured: Iterable[str]) -> tuple[str, ...]:
    """Name the members of a family."""
    if panel != (_COMPONENTS,):
        return panel
    members = [name for name in measured if name.startswith(_COMPONENTS) and name.endswith("_mean")]
    return tuple(members[:_MOST_COMPONENTS])
