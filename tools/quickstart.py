# ruff: noqa: INP001 - tools/ holds scripts, no package
"""Does the first hour work as docs/quickstart.md tells? Runs the page's blocks in one fresh folder.

`python tools/quickstart.py` runs the page and says where it prints something else than the page shows;
`--write` puts what was printed into the page, and `--times` how long that took, too: for an idle machine.
A bash block is run, and the `text` block behind it is what it prints. HTML comments, which readers do not
see, tell of the block that follows: `<!-- run: skip -->`; `file=NAME`, the block is that file; `edit=NAME`,
the block, a diff, changes that file; `background=WORDS`, it is a server, ready when it has printed them;
`head=N`, `tail=M` and `only=PATTERN`, only such lines are shown; `exit=CODE`, how it ends; `stop`, without a
block, ends the server as Ctrl-C does.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGE: Final = Path(__file__).parents[1] / "docs" / "quickstart.md"
FOLDER: Final = "/home/you/first-hour"
"""What the page has in place of the folder in which the blocks were run."""

_PORT: Final = "5000"
_PATIENCE_S: Final = 600
_ROUND_S: Final = 5
_BLOCK: Final = re.compile(
    r"^<!-- run: stop -->\n"
    r"|(?:^<!-- run: (?P<options>.*?) -->\n+)?^```(?P<language>bash|python|diff)\n(?P<code>.*?)^```\n"
    r"(?:\n(?P<shown>```text\n(?P<output>.*?)^```\n))?",
    re.DOTALL | re.MULTILINE,
)
_AS_IN_ONE_TERMINAL: Final = (
    "touch .exported; . ./.exported\ntrap 'export -p > .exported' EXIT\nset -e\n{code}"
)
_SECTION: Final = re.compile(r"^(?=## )", re.MULTILINE)
_TOOK: Final = re.compile(r"^\*About \d+ s(?=[.,])", re.MULTILINE)
_RUN: Final = re.compile(
    r"offline-run-\d{8}_\d{6}-(?P<wandb>\w{8})|(?P<journal>\w+)_events\.jsonl|runs/(?P<mlflow>[0-9a-f]{32})"
)
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;]*m")
_DIFFERS: Final = (
    (re.compile(r"offline-run-\d{8}_\d{6}-\w+"), "ID"),
    (re.compile(r"(?<=\u2502 )[a-z0-9]{8}(?= +\u2502)"), "ID"),
    (re.compile(r"\d{8}_\d{6}"), "TIME"),
    (re.compile(r"\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d\S*"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"-?\d+(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+)"), "NUMBER"),
    (re.compile(r"\b\d+(?= (?:events|points|numbers|parameters|tags|s\b|seconds|waiting|sent))"), "COUNT"),
    (re.compile(r"(?<=line )\d+: +\d+"), "PID"),
    (re.compile(r"\bstep +\d+"), "STEP"),
    (re.compile(r"[ \u2500-\u257f]+"), " "),
)


class Difference(NamedTuple):
    """Where a block printed something else than the page shows."""

    code: str
    shown: str
    printed: str


@dataclass
class Session:
    """One reader: the folder, the server that may be running, and which run has which id this time."""

    folder: Path
    port: str
    server: subprocess.Popen[bytes] | None = None
    told: str = ""
    """What the page shows of the blocks that were run."""
    seen: str = ""
    """What they have printed."""
    differences: list[Difference] = field(default_factory=list)

    def here(self, text: str) -> str:
        """Turn a text of the page into one of this session: its folder, its port, its runs."""
        for old, new in zip(_runs(self.told), _runs(self.seen), strict=False):
            text = text.replace(old, new)
        return (
            text.replace(FOLDER, str(self.folder))
            .replace(f":{_PORT}", f":{self.port}")
            .replace(f"--port {_PORT}", f"--port {self.port}")
        )

    def there(self, text: str) -> str:
        """Turn what was printed here into the page's text."""
        return text.replace(str(self.folder), FOLDER).replace(self.port, _PORT)

    def run(self, code: str, ends_with: int) -> str:
        """Run a block of commands; gives what a terminal would show in the end.

        Raises:
            RuntimeError: It does not end in time, or with another exit code.
        """
        command = ["bash", "-c", _AS_IN_ONE_TERMINAL.format(code=self.here(code))]
        try:
            done = subprocess.run(  # noqa: S603  # the page's own commands
                command,
                cwd=self.folder,
                env=_environment(self.folder),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            message = f"does not end: {code}"
            raise RuntimeError(message) from late
        shown = self.there(_as_terminal(done.stdout.decode()))
        if done.returncode != ends_with:
            message = f"ends with code {done.returncode}: {code}{shown}"
            raise RuntimeError(message)
        return shown

    def start(self, code: str, words: str) -> None:
        """Start a server and wait for its words.

        Raises:
            RuntimeError: It has ended, or does not say them in time.
        """
        log = self.folder / ".server.log"
        with log.open("wb") as out:
            self.server = subprocess.Popen(  # noqa: S603  # the page's own command
                ["bash", "-c", f"exec {self.here(code)}"],  # noqa: S607  # the reader's bash
                cwd=self.folder,
                env=_environment(self.folder),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE_S
        while self.here(words) not in (said := log.read_text(errors="replace")):
            if self.server.poll() is not None or time.monotonic() > deadline:
                message = f"the server does not say {words!r}: {said}"
                raise RuntimeError(message)
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server as Ctrl-C does."""
        if self.server is None:
            return
        os.killpg(self.server.pid, signal.SIGINT)
        try:
            self.server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()
        self.server = None


def played(text: str, *, is_timed: bool = False) -> tuple[str, list[Difference]]:
    """Run a page's blocks in a fresh folder; gives the page with what they print, and where that differs."""
    with _session() as session:
        parts = [_section(part, session, is_timed=is_timed) for part in _SECTION.split(text)]
    return "".join(parts), session.differences


def alike(text: str) -> str:
    """Take out of an output what is another one each time: ids, times, measured numbers, widths of tables."""
    for run in _runs(text):
        text = text.replace(run, "ID")
    for pattern, name in _DIFFERS:
        text = pattern.sub(name, text)
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def _section(text: str, session: Session, *, is_timed: bool) -> str:
    begin = time.monotonic()
    text = _BLOCK.sub(lambda block: _played(block, session), text)
    took = max(_ROUND_S, _ROUND_S * round((time.monotonic() - begin) / _ROUND_S))
    return _TOOK.sub(f"*About {took} s", text) if is_timed else text


def _played(block: re.Match[str], session: Session) -> str:
    if block["code"] is None:
        session.stop()
        return block[0]
    options = dict(option.partition("=")[::2] for option in re.split(r", ", block["options"] or "") if option)
    if "skip" in options:
        return block[0]
    if block["language"] != "bash":
        _write(session.folder, options, block["code"])
        return block[0]
    if "background" in options:
        session.start(block["code"], options["background"])
        return block[0]
    code = session.here(block["code"])
    printed = session.run(block["code"], int(options.get("exit", 0)))
    printed = _cut(printed, options)
    shown = block["output"] or ""
    session.told, session.seen = session.told + shown, session.seen + printed
    if _told_of_runs(shown, session.told) != _told_of_runs(printed, session.seen):
        session.differences.append(Difference(block["code"], shown, printed))
    head = block[0][: block.start("shown") - block.start()] if block["shown"] else block[0] + "\n"
    head = head.replace(block["code"], session.there(code))
    return f"{head}```text\n{printed}```\n" if printed else head.rstrip("\n") + "\n"


def _told_of_runs(text: str, before: str) -> str:
    for run in _runs(before):
        text = text.replace(run, "ID")
    return alike(text)


def _write(folder: Path, options: dict[str, str], code: str) -> None:
    """Make a file of a block, or change one: the block's lines that are not new must be there once.

    Raises:
        RuntimeError: They are not.
    """
    if "file" in options:
        (folder / options["file"]).write_text(code, encoding="utf-8")
    elif "edit" in options:
        path = folder / options["edit"]
        text = path.read_text(encoding="utf-8")
        for hunk in code.split("...\n"):
            lines = [(line[:1], line[1:] or "\n") for line in hunk.splitlines(keepends=True)]
            old = "".join(line for sign, line in lines if sign != "+")
            if text.count(old) != 1:
                message = f"{path.name} has these lines {text.count(old)} times, not once:\n{old}"
                raise RuntimeError(message)
            text = text.replace(old, "".join(line for sign, line in lines if sign != "-"))
        path.write_text(text, encoding="utf-8")


def _cut(text: str, options: dict[str, str]) -> str:
    """Leave out lines: all but the first and last so many, and all but those that a pattern finds."""
    lines = text.splitlines(keepends=True)
    head, tail = int(options.get("head", 0)), int(options.get("tail", 0))
    is_left_out = [
        (bool(head or tail) and head <= number < len(lines) - tail)
        or ("only" in options and not re.search(options["only"], line))
        for number, line in enumerate(lines)
    ]
    gaps = (not before and now for before, now in zip([False, *is_left_out], is_left_out, strict=False))
    return "".join(
        ("...\n" if is_gap else "") + ("" if is_out else line)
        for line, is_out, is_gap in zip(lines, is_left_out, gaps, strict=True)
    )


def _as_terminal(text: str) -> str:
    lines = [
        _ESCAPES.sub("", line).rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")
    ]
    return "\n".join(lines).strip("\n") + "\n" if any(lines) else ""


def _runs(text: str) -> list[str]:
    """Name the runs that a text names, each once: the folder's time of a W&B run, and ids."""
    found: dict[str, None] = {}
    for match in _RUN.finditer(text):
        found |= dict.fromkeys([match[0]] if match["wandb"] else [])
        found |= dict.fromkeys(name for name in match.groups() if name)
    return list(found)


@contextmanager
def _session() -> Iterator[Session]:
    with tempfile.TemporaryDirectory(prefix="first-hour-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        probe.close()
        session = Session(Path(folder).resolve(), port)
        try:
            yield session
        finally:
            session.stop()


def _environment(folder: Path) -> dict[str, str]:
    """Give a reader's environment: nothing configured, and a home of their own.

    Progress bars, colours, other libraries' FutureWarnings and MLflow's job runner are turned off;
    threads that wait for each other would only take a busy machine's time.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "WANDB", "RLDK"))
    }
    tools = str(Path(sys.executable).parent)
    return kept | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder / ".home"),
        "XDG_CACHE_HOME": str(folder / ".home" / ".cache"),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(Path("~/.config/matplotlib").expanduser())),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "80",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "TQDM_DISABLE": "1",
        "PYTHONWARNINGS": "ignore::FutureWarning",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def main(arguments: Sequence[str]) -> int:
    """Run the page; `--write` and `--times` renew it."""
    text = PAGE.read_text(encoding="utf-8")
    renewed, differences = played(text, is_timed="--times" in arguments)
    if {"--write", "--times"} & set(arguments):
        PAGE.write_text(renewed, encoding="utf-8")
        return 0
    for each in differences:
        sys.stdout.write(f"$ {each.code}the page shows\n{each.shown}but this was printed\n{each.printed}\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
