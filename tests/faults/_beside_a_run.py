"""A training whose script has a W&B run of its own open, made with `reinit="create_new"`; see `_life.py`.

At the end of the process it says `leaving` when RLDK has decided what to do about wandb-core, and before W&B
waits for it.
"""

from __future__ import annotations

import atexit
from typing import Final

import wandb

from tests.faults._life import Life, answer, main

OTHER_ID: Final = "of-the-script"

if __name__ == "__main__":
    other = wandb.init(id=OTHER_ID, reinit="create_new", settings=wandb.Settings(console="off"))
    other.log({"mine": 1.0})
    atexit.register(answer, "leaving")
    main(Life)
