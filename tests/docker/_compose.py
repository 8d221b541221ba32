"""docker/compose.yaml as Compose itself would read it, and its services as processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[2] / "docker"
TEXT = (FOLDER / "compose.yaml").read_text()
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
_VARIABLE = re.compile(r"\$\{(\w+)(?::(?P<how>[?-])(?P<word>[^}]*))?\}")


def variables():
    """Each variable of the file: its name to `?` (it must be set), `-` (it has a default) or None."""
    return {found[1]: found["how"] for found in _VARIABLE.finditer(TEXT)}


def project(**values):
    """The whole file with its variables filled in; KeyError for one that must be set and is not."""

    def value(found):
        return values[found[1]] if found["how"] == "?" else values.get(found[1], found["word"])

    return yaml.safe_load(_VARIABLE.sub(value, TEXT))


def image_entrypoint(target):
    """What the Dockerfile's stage of that name starts where the file says nothing."""
    [stage] = re.findall(rf"^FROM \S+ AS {target}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.DOTALL | re.MULTILINE)
    found = re.search(r"^ENTRYPOINT (\[.*\])$", stage, re.MULTILINE)
    return json.loads(found[1]) if found else []


class Service:
    """A service of the file, run as a process of this machine.

    Args:
        definition: What the file says of it.
        places: What stands for what in this machine: each text of the file to another.
        home: Its home, its working folder and all that it may write.
    """

    def __init__(self, definition, places, home):
        self._definition = definition
        self._places = places
        self.home = home
        home.mkdir(parents=True)

    def command(self, *more):
        """Its very command line, with this machine's addresses."""
        entrypoint = self._definition.get("entrypoint") or image_entrypoint(
            self._definition["build"]["target"]
        )
        parts = [*entrypoint, *self._definition["command"], *more]
        return [self.here(part) for part in parts]

    def health(self):
        """How its health is asked."""
        [kind, *command] = self._definition["healthcheck"]["test"]
        assert kind == "CMD"
        asked = [self.here(part) for part in command]
        quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        return subprocess.run(asked, env=self.environment(), check=False, **quiet).returncode

    def environment(self):
        """The variables that the file gives it, and no other but where programs and its home are."""
        own = {name: self.here(value) for name, value in self._definition.get("environment", {}).items()}
        path = os.pathsep.join([str(FOLDER), str(Path(sys.executable).parent), os.environ["PATH"]])
        return {"PATH": path, "HOME": str(self.home), "TMPDIR": str(self.home.parent)} | own

    def here(self, text):
        """A text of the file as it is to be here."""
        for there, here in self._places.items():
            text = text.replace(there, here)
        return text

    def run(self, *more):
        """Run it to its end."""
        options = {"capture_output": True, "text": True, "env": self.environment()}
        return subprocess.run(self.command(*more), cwd=self.home, check=False, **options)

    def start(self, log, *more):
        """Start it; what it says goes to a file."""
        options = {"stdout": log, "stderr": log, "env": self.environment(), "cwd": self.home}
        return subprocess.Popen(self.command(*more), **options)
