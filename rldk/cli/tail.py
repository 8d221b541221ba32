"""`rldk tail`: a live view of a run that is being written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from rldk.cli import options
from rldk.cli.app import FOUND, app, console
from rldk.cli.output import write_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from rldk.tail.following import Follower
    from rldk.tail.standing import Standing

_GLANCE_S = 0.1
_LAST_DELIVERIES_S = 60.0


@app.command()
def tail(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A journal; its folder, or a trainer's output_dir, for the newest run there; or a run's id.",
        ),
    ] = ".",
    *,
    metrics: Annotated[
        list[str] | None, typer.Option(help="Only metrics with these names, such as 'reward*' or 'eval/*'.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Show it as it is now, and end; so it is without a terminal, too.")
    ] = False,
    as_json: options.Json = False,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Show how a run gets on: its metrics, its health, its resources, and what the trackers lack.

    Ends when the run does, and on Ctrl-C. Exit code 1 if the verdict is critical, the run has FAILED or was
    KILLED, or no process writes it any more though it has no end; 2 if no metric is called so; 3 if there
    is no such run, or the file is no journal.
    """
    from rldk.errors import SourceError
    from rldk.tail.finding import find
    from rldk.tail.following import Follower
    from rldk.tail.standing import demand, document, standing

    follower = Follower(find(run))
    follower.read()
    if follower.foreign:
        raise SourceError(str(follower.path), follower.foreign, "give a journal, its folder, or a run's id")
    globs = metrics or []
    told = standing(follower, time.time(), globs)
    if as_json:
        demand(told, globs)
        write_document(document(told, str(follower.path)))
    elif once or not console.is_terminal:
        demand(told, globs)
        console.print(_Picture(told, console.height if console.is_terminal else _ALL), end="")
    else:
        told, is_interrupted = _watch(follower, globs, interval)
        console.print(_Picture(told, _ALL), end="")
        if is_interrupted:
            return
    raise typer.Exit(FOUND if told.is_bad else 0)


_ALL = 10_000  # lines: where nothing scrolls away, nothing is left out


class _Picture:
    """A standing, drawn anew for whatever size the terminal has when it is shown."""

    def __init__(self, told: Standing, height: int | None = None) -> None:
        self._told = told
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        from rldk.tail.picture import Size, lines

        height = self._height or options.max_height
        yield from lines(self._told, Size(options.max_width, height, options.ascii_only))


def _watch(follower: Follower, globs: Sequence[str], interval_s: float) -> tuple[Standing, bool]:
    """Show the run until it ends, or somebody interrupts; gives how it stood, and whether somebody did."""
    from rich.live import Live

    from rldk.tail.standing import standing

    told = standing(follower, time.time(), globs)
    ended_at: float | None = None
    live = Live(_Picture(told), console=console, screen=True, auto_refresh=False)
    try:
        live.start(refresh=True)
        while not _is_over(told, ended_at):
            _wait(live, _Picture(told), interval_s)
            follower.read()
            told = standing(follower, time.time(), globs)
            live.update(_Picture(told), refresh=True)
            ended_at = (ended_at or time.monotonic()) if told.life == "ended" else None
    except KeyboardInterrupt:
        return told, True
    finally:
        live.stop()  # as `with` would not where Ctrl-C comes while the first picture is drawn
    return told, False


def _is_over(told: Standing, ended_at: float | None) -> bool:
    """Whether the run has ended, and the trackers have all of it or had their time."""
    if told.life != "ended":
        return False
    is_delivered = not any(lag.is_delivering for lag in told.lags)
    return ended_at is None or is_delivered or time.monotonic() - ended_at > _LAST_DELIVERIES_S


def _wait(live: object, picture: _Picture, interval_s: float) -> None:
    """Wait until the next look is due; a terminal that changes its size gets a picture that fits at once."""
    end, size = time.monotonic() + interval_s, console.size
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _GLANCE_S))
        if console.size != size:
            size = console.size
            live.update(picture, refresh=True)  # type: ignore[attr-defined]  # rich.live.Live
