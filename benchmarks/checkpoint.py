"""How fast is a checkpoint analysed, beside loading it with safetensors, and beside reading its bytes?"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import reading, workload
from benchmarks.result import Goal, Result, Row, Table, ratios, spread
from rldk.health import checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.reading import Cost

_FILE: Final = "model.safetensors"
_PIECE: Final = 2**20
_SIDE: Final = 2048

_OURS: Final = "analyse"
_PEER: Final = "safetensors load_file, torch: norms alone"
_FLOOR: Final = "floor: read the bytes"
_OURS_TWO: Final = "analyse, beside the previous checkpoint"
_PEER_TWO: Final = "load_file of both, torch: norms, changes, cosines"
_FLOOR_TWO: Final = "floor: read the bytes of both"
_ALONE: Final = (_OURS, _PEER, _FLOOR)
_BOTH: Final = (_OURS_TWO, _PEER_TWO, _FLOOR_TWO)

Costs = dict[str, list["Cost"]]


def measure(*, quick: bool) -> Result:
    """Analyse a checkpoint, from the disk and from the system's cache, and while a loop computes."""
    layers, rounds, steps, turns = (1, 1, 100, 2) if quick else (128, 4, 1_000, 15)
    with workload.workplace() as folder:
        for name, count in (("small", 1), ("a", layers), ("b", layers)):
            _save(folder / f"run-{name}", count)
        size = (folder / "run-b" / _FILE).stat().st_size
        from_cache = _in_turns(folder, rounds, evict=False)
        from_disk = _in_turns(folder, rounds, evict=True)
        pace = _paces(folder, steps, turns)
    return Result(
        name="checkpoint",
        question=__doc__ or "",
        tables=(
            _table("From the disk", from_disk, size),
            _table("From the system's cache", from_cache, size),
            _pace_table(pace, steps),
        ),
        goals=_goals(from_disk, from_cache, pace),
        notes=_notes(size, rounds, layers, turns),
    )


def alone(source: str) -> object:
    """Analyse one checkpoint."""
    return checkpoints.analyse(Path(source))


def both(source: str) -> object:
    """Analyse one beside the one before."""
    return checkpoints.analyse(Path(source), Path(source).with_name("run-a"))


def torch_alone(source: str) -> object:
    """Do the least of it as in a script: load all, then take the norms."""
    return [each.float().norm() for each in _loaded(source).values()]


def torch_both(source: str) -> object:
    """The same, with both in memory."""
    now, before = _loaded(source), _loaded(str(Path(source).with_name("run-a")))
    told = []
    for name, each in now.items():
        w, v = each.float(), before.get(name, each).float()  # the small one has fewer tensors
        told.append((w.norm(), (w - v).norm() / v.norm(), (w * v).sum() / (w.norm() * v.norm())))
    return told


def bytes_alone(source: str) -> object:
    """Read a file in pieces into the same memory, and forget them."""
    room = memoryview(bytearray(_PIECE))
    with (Path(source) / _FILE).open("rb", buffering=0) as file:
        while file.readinto(room):
            pass
    return None


def bytes_both(source: str) -> object:
    """The same, one file after the other."""
    bytes_alone(source)
    return bytes_alone(str(Path(source).with_name("run-a")))


def paces(source: str, steps: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds that a loop of small computations takes, alone and with the analyst at work, in turns."""
    import torch  # noqa: PLC0415  # each contender's process loads its own library alone

    torch.set_num_threads(1)
    weights = [torch.randn(64, 64) for _ in range(16)]
    alone(source)
    told: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for is_analysing, seconds in enumerate(told):
            analyst, again = checkpoints.Analyst(), _Again(source)
            if is_analysing:
                again.submit(analyst)
            began = time.perf_counter()
            for _ in range(steps):
                state = weights[0]
                for each in weights:
                    state = torch.tanh(state @ each)
            seconds.append(time.perf_counter() - began)
            again.is_over = True
            analyst.finish(0)
    return told


class _Again:
    """Has a checkpoint analysed again when its analysis is done."""

    def __init__(self, source: str) -> None:
        self.is_over = False
        self._source = Path(source)

    def submit(self, analyst: checkpoints.Analyst) -> None:
        def emitted(*_: object) -> None:
            if not self.is_over:
                analyst.submit(0, self._source, emitted)

        analyst.submit(0, self._source, emitted)


_WAYS: Final[Mapping[str, Callable[[str], object]]] = {
    _OURS: alone,
    _PEER: torch_alone,
    _FLOOR: bytes_alone,
    _OURS_TWO: both,
    _PEER_TWO: torch_both,
    _FLOOR_TWO: bytes_both,
}


def _save(folder: Path, layers: int) -> None:
    import torch  # noqa: PLC0415  # the same
    from safetensors.torch import save_file  # noqa: PLC0415  # the same

    folder.mkdir()
    torch.manual_seed(len(folder.name) + layers + ord(folder.name[-1]))
    tensors = {f"w{i}": (0.02 * torch.randn(_SIDE, _SIDE)).bfloat16() for i in range(layers)}
    save_file(tensors, folder / _FILE)


def _loaded(source: str) -> dict[str, Any]:
    import torch  # noqa: PLC0415  # the same
    from safetensors.torch import load_file  # noqa: PLC0415  # the same

    torch.set_num_threads(1)  # with more, its barriers wait for whatever else runs on the machine
    loaded: dict[str, Any] = load_file(Path(source) / _FILE)
    return loaded


def _in_turns(folder: Path, rounds: int, *, evict: bool) -> Costs:
    costs: Costs = {name: [] for name in _WAYS}
    source, small = folder / "run-b", folder / "run-small"
    for number in range(rounds):
        names = list(_WAYS) if number % 2 else list(reversed(_WAYS))
        for name in names:
            for each in ("run-a", "run-b"):
                (_evict if evict else _warm)(folder / each / _FILE)
            costs[name].append(reading.once(_WAYS[name], str(source), str(small)))
    return costs


def _evict(path: Path) -> None:
    """Have the system forget a file, so that it comes from the disk the next time."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _warm(path: Path) -> None:
    bytes_alone(str(path.parent))


def _paces(folder: Path, steps: int, rounds: int) -> tuple[list[float], list[float]]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(paces, str(folder / "run-b"), steps, rounds).result()


def _table(title: str, costs: Costs, size: int) -> Table:
    rows = []
    for names, total in ((_ALONE, size), (_BOTH, 2 * size)):
        floor = reading.median(costs[names[-1]])
        for name in names:
            seconds = reading.median(costs[name])
            grown = max(cost.grown for cost in costs[name]) / 2**20
            rows.append(Row(name, (seconds, total / 1e6 / seconds, seconds / floor, grown)))
    columns = ("seconds", "MB/s", "times the floor", "memory grown, MiB")
    return Table(f"{title}: {size / 1e6:,.0f} MB a checkpoint", columns, tuple(rows))


def _pace_table(told: tuple[list[float], list[float]], steps: int) -> Table:
    without, beside = told
    rows = (
        Row("without an analysis, us a step", spread([1e6 * each / steps for each in without])),
        Row("beside one, us a step", spread([1e6 * each / steps for each in beside])),
        Row("beside one / without", spread(ratios(beside, without))),
    )
    return Table("A loop of small computations in torch", ("min", "median", "max"), rows)


def _goals(from_disk: Costs, from_cache: Costs, pace: tuple[list[float], list[float]]) -> tuple[Goal, ...]:
    speed = _over(from_disk, _OURS, _FLOOR)
    factor = _over(from_cache, _PEER_TWO, _OURS_TWO)
    grown = max(cost.grown for name in (_OURS, _OURS_TWO) for cost in from_disk[name]) / 2**20
    slower = statistics.median(ratios(pace[1], pace[0]))
    return (
        Goal("from the disk: time over that of reading the bytes", "under", 2, speed),
        Goal("beside the previous checkpoint: times as fast as load_file and torch", "over", 1, factor),
        Goal("memory grown by an analysis, MiB", "under", 64, grown),
        Goal("a loop of computations beside an analysis: its time", "under", 1.1, slower),
    )


def _over(costs: Costs, name: str, other: str) -> float:
    return reading.median(costs[name]) / reading.median(costs[other])


def _notes(size: int, rounds: int, layers: int, turns: int) -> str:
    return f"""\
- Checkpoints of {layers} bfloat16 tensors, {size / 1e6:,.0f} MB each; {rounds} rounds, in turns, every second
  one backwards, each in a fresh process that has read a small one before. From the disk: the files are
  dropped from the system's cache before each reading (`posix_fadvise`), but the disk of a virtual machine
  may have a cache of its own, and its speed changes from one reading to the next.
- All work on one thread. `analyse` counts what is not finite and what is zero, too, and takes checksums; the
  peer does not. Memory is the growth of the process's largest resident size; `load_file` maps the file,
  whose pages count while they are used.
- The loop: products of 64 x 64 matrices on one thread, so that the interpreter is asked for all the time.
  The analyst reads the checkpoint again and again while it runs; {turns} turns each. What is shared slows it
  down: the interpreter, caches and memory, and the cores where none is free (the analyst's thread has a low
  priority there).
- Why the loop can miss its goal: it is that of two cores that other work wants, too. There the same analysis
  in a process of its own, at the usual priority, slowed the loop down 1.8 to 1.9 times, and the analyst's
  thread 1.1 to 1.3 times, in turns of a quarter of a second."""
