"""An environment with what an installation of `rldk[EXTRA]` brings and nothing else, made of links.

What belongs to it is what the distributions' metadata says, from the built wheel on; files are those that
are installed here. Python runs without `site`, so that it sees the standard library and this alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement


class Environment:
    """What `pip install 'rldk[extras]'` would give.

    Args:
        folder: Where its packages are to be.
        wheel: RLDK's wheel.
        extras: Which extras to install.
    """

    def __init__(self, folder, wheel, *extras):
        self.folder = folder
        folder.mkdir(parents=True)
        ZipFile(wheel).extractall(folder)
        [info] = folder.glob("rldk-*.dist-info")
        own = metadata.PathDistribution(info)
        for name in sorted(_closure(own, frozenset(extras))):
            _link(metadata.distribution(name), folder)

    def run(self, *arguments, cwd, **variables):
        """Run Python in it."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        # A home of its own: what RLDK has noted there of other runs does not count here
        own = {"HOME": str(self.folder.parent), "PYTHONPATH": str(self.folder)}
        environment = kept | own | {"COLUMNS": "200", "NO_COLOR": "1"} | variables
        command = [sys.executable, "-S", "-s", *arguments]
        options = {"capture_output": True, "text": True, "timeout": 200}
        return subprocess.run(command, cwd=cwd, env=environment, check=False, **options)

    def rldk(self, *arguments, cwd, **variables):
        """Run the `rldk` command in it."""
        return self.run("-m", "rldk", *map(str, arguments), cwd=cwd, **variables)


def _closure(own, extras):
    """The names of all distributions that one needs, itself left out."""
    seen, waiting = set(), [(own, extras)]
    while waiting:
        distribution, wanted = waiting.pop()
        for line in distribution.requires or ():
            requirement = Requirement(line)
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            more = frozenset(requirement.extras)
            if (name, more) in seen or not _applies(requirement, wanted):
                continue
            seen.add((name, more))
            waiting.append((own if name == "rldk" else metadata.distribution(name), more))
    return {name for name, _ in seen} - {"rldk"}


def _applies(requirement, extras):
    marker = requirement.marker
    if marker is None:
        return True
    if not any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
        return False
    try:
        metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        # Of another platform's build, such as CUDA's packages beside a torch for the CPU
        return "extra ==" in str(marker)
    return True


def _link(distribution, folder):
    """Link a distribution's files, by whole packages where only it has files in them."""
    for file in distribution.files or ():
        parts = file.parts
        if parts[0] == ".." or parts[0] == "__pycache__":
            continue
        real = Path(distribution.locate_file(""))
        depth = 1
        while depth < len(parts) and not _is_whole(real.joinpath(*parts[:depth])):
            depth += 1
        here = folder.joinpath(*parts[:depth])
        here.parent.mkdir(parents=True, exist_ok=True)
        if not here.exists() and not here.is_symlink():
            here.symlink_to(real.joinpath(*parts[:depth]))


def _is_whole(path):
    """Whether a folder is a package of one distribution: others share a namespace's."""
    return (path / "__init__.py").exists() or path.name.endswith((".dist-info", ".libs"))
