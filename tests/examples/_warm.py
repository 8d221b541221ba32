"""Run scripts, each in a fork of this process, which has imported what takes time and started no thread.

It reads a line of JSON for each script: its path, its arguments, what to change in its environment, its
folder, and the file for what it prints. The answer is a line with the code that it ended with.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

HEAVY = ("datasets", "matplotlib", "mlflow", "pandas", "rldk.demo", "rldk.integrations.trl", "wandb")
CLASSES = {
    "transformers": ("AutoModelForCausalLM", "PreTrainedTokenizerFast", "Qwen2ForCausalLM"),
    "trl": ("DPOConfig", "DPOTrainer", "GRPOConfig", "GRPOTrainer"),
}


def warm_up():
    """Import what the examples do; classes of lazy packages by their names."""
    for name in HEAVY:
        if find_spec(name.partition(".")[0]) is not None:
            importlib.import_module(name)
    for home, names in CLASSES.items():
        for name in names:
            getattr(importlib.import_module(home), name)


def run(script, arguments, environment, folder, output):
    """Become the script."""
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.close(0)
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


def main():
    """Serve until nobody asks any more."""
    warm_up()
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            return run(**json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()
    return None


if __name__ == "__main__":
    main()
