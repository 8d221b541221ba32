"""Do the installed libraries work together?"""

from __future__ import annotations

import re
from typing import Final

_FIRST_TRL_FOR_TRANSFORMERS_5: Final = (0, 29)


def complaint(trl: str | None, transformers: str | None) -> str | None:
    """Say what is wrong with two versions and what to do; None where nothing is.

    TRL below 0.29 asks a private function of transformers which of its optional dependencies are
    there, and transformers 5 lets it believe that all are.
    """
    if trl is None or transformers is None or _release(transformers) < (5,):
        return None
    if _release(trl) >= _FIRST_TRL_FOR_TRANSFORMERS_5:
        return None
    return (
        f"TRL {trl} does not work with transformers {transformers}: GRPOTrainer, RLOOTrainer and DPOTrainer "
        "fail to import, with \"No module named 'vllm'\", 'mergekit' or 'weave'; "
        "run: pip install 'transformers<5', or pip install 'trl>=0.29'"
    )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
