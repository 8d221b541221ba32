"""How many tokens did the steps since the last log see?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_GENERATING: Final = frozenset({"GRPO", "RLOO"})


class TokenCounter:
    """Takes the tokens of each log from what the trainer counts.

    Trainers log the sum so far (`num_tokens`). What trains on given text has read the difference:
    `tokens_in`. GRPO and RLOO count prompts and completions together; where one log is one
    generation, the mean length of the completions times their number is `tokens_out`, and the rest
    is `tokens_in`.

    Args:
        trainer: Short name of the trainer.
        args: The trainer's arguments.
        is_resumed: Whether training goes on from a checkpoint; GRPO's and RLOO's sum goes on too, so
            that their first log then tells no difference.
    """

    def __init__(self, trainer: str, args: Mapping[str, Any], *, is_resumed: bool) -> None:
        self._generates = trainer in _GENERATING
        self._completions = args.get("generation_batch_size")
        self._is_one_generation = args.get("logging_steps") == 1
        self._total: float | None = None if is_resumed and self._generates else 0.0

    def count(self, logs: Mapping[str, Any]) -> dict[str, int]:
        """Give `tokens_in` and `tokens_out`, as far as this log tells them."""
        total = logs.get("num_tokens")
        if not isinstance(total, int | float):
            return {}
        before, self._total = self._total, total
        if before is None or total < before:
            return {}
        seen = round(total - before)
        return self._split(seen, logs) if self._generates else {"tokens_in": seen}

    def _split(self, seen: int, logs: Mapping[str, Any]) -> dict[str, int]:
        length = logs.get("completions/mean_length")
        if not (self._is_one_generation and self._completions and isinstance(length, int | float)):
            return {}
        written = round(length * self._completions)
        return {"tokens_in": seen - written, "tokens_out": written} if written <= seen else {}
