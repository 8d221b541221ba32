"""The suite that every bridge must pass: subclass it, name the sink and the adapter, run pytest.

    from rldk.testing.conformance import BridgeConformance

    class TestMyBridge(BridgeConformance):
        sink = MySink
        adapter = MyAdapter

Fixtures in the subclass, or beside it, have the tracker configured so that `MySink.create()` finds it. It
needs `hypothesis` and `pytest`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

import msgspec

from rldk.bridge import Target
from rldk.errors import MissingDependencyError
from rldk.testing import runs
from rldk.testing.courier import Course, deliver
from rldk.testing.law import LawBrokenError, check_read_back, check_round_trip

try:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingDependencyError("rldk.testing.conformance", "hypothesis", "testing") from error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rldk.bridge import Adapter, Sink
    from rldk.event import Event


class BridgeConformance:
    """Tests of one bridge, as methods that pytest collects in a subclass whose name begins with `Test`.

    Attributes:
        sink: The bridge's sink.
        adapter: Its adapter, which reads what the sink writes.
        profile: How many runs hypothesis generates, and how. A slow tracker wants few.
    """

    sink: ClassVar[type[Sink]]
    adapter: ClassVar[type[Adapter]]
    profile: ClassVar[settings] = settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        report_multiple_bugs=False,
    )

    def test_any_run_comes_back(self, tmp_path: Path) -> None:
        """What was sent is what is read, whatever befell the delivery."""

        @self.profile
        @given(events=runs.runs(), course=runs.courses())
        def law(events: list[Event], course: Course) -> None:
            check_round_trip(renamed(events), self.sink, self.adapter, tmp_path, course)

        law()

    def test_any_name_and_number_comes_back(self, tmp_path: Path) -> None:
        """Many metrics in one event, with hostile names and numbers, are as `kept` says."""

        @settings(self.profile, max_examples=max(self.profile.max_examples // 5, 1))
        @given(events=runs.wide_runs())
        def law(events: list[Event]) -> None:
            check_round_trip(renamed(events), self.sink, self.adapter, tmp_path)

        law()

    def test_a_run_without_numbers_has_no_rows(self, tmp_path: Path) -> None:
        """It may be read as one that only began, or be refused as nothing to read."""
        events = renamed(runs.short_run()[:1])
        home = deliver(events, self.sink.create, tmp_path / "empty_events.jsonl")
        check_read_back(events, home.source, self.sink, self.adapter)

    def test_a_source_names_its_runs(self, tmp_path: Path) -> None:
        """The source of a run is recognised, and names one source, which reads as the same run."""
        events = renamed(runs.short_run())
        home = check_round_trip(events, self.sink, self.adapter, tmp_path)
        _must(home.tracker == self.sink.name == self.adapter.name, "sink, adapter and home have one name")
        _must(self.adapter(home.source).can_handle(), f"the adapter recognises {home.source}")
        named = self.adapter(home.source).runs()
        _must(len(named) == 1, f"{home.source} is one run, not {named}")
        check_read_back(events, named[0], self.sink, self.adapter)

    def test_files_come_back(self, tmp_path: Path) -> None:
        """A file and a folder that `close` was given are among those that `files` gives."""
        events = renamed(runs.short_run())
        given_files = _write_files(tmp_path / "given")
        sink = self.sink.create(Target())
        home = sink.open(events[0])
        sink.settle(None)
        sink.send(events)
        sink.close("FINISHED", given_files)
        into = tmp_path / "into"
        into.mkdir()
        found = {path.name: path for path in self.adapter(home.source).files(into)}
        for path in given_files:
            _must(path.name in found, f"{path.name} is among the files {sorted(found)}")
            _must(_content(found[path.name]) == _content(path), f"{path.name} holds what it held")

    def test_an_adapter_judges_any_text(self) -> None:
        """`can_handle` raises at nothing."""

        @settings(self.profile, max_examples=max(self.profile.max_examples, 100))
        @given(source=st.text() | st.sampled_from(["\0", "x" * 5000, "/", ".", "://", "#runs/", "runs:/"]))
        def law(source: str) -> None:
            _must(isinstance(self.adapter(source).can_handle(), bool), "can_handle gives a bool")

        law()

    def test_nothing_is_attached_without_a_run(self) -> None:
        """Where the script has opened no run of the tracker, there is none to take."""
        _must(self.sink.attach() is None, "attach gives None where no run is open")

    def test_losses_are_sentences(self) -> None:
        """What is lost is said in words."""
        _must(all(loss.endswith(".") for loss in self.sink.losses), "each loss is a sentence")


def renamed(events: Sequence[Event]) -> list[Event]:
    """Give a run an id that no tracker has seen."""
    run_id = f"law-{uuid4().hex[:12]}"
    return [msgspec.structs.replace(e, model_info=e.model_info | {"run_id": run_id}) for e in events]


def _write_files(folder: Path) -> list[Path]:
    (folder / "checkpoint-2").mkdir(parents=True)
    (folder / "checkpoint-2" / "weights.bin").write_bytes(bytes(range(256)))
    (folder / "report.html").write_text("all is well")
    return [folder / "report.html", folder / "checkpoint-2"]


def _content(path: Path) -> dict[str, bytes]:
    inside = path.rglob("*") if path.is_dir() else [path]
    return {str(file.relative_to(path)): file.read_bytes() for file in inside if file.is_file()}


def _must(is_so: bool, promise: str) -> None:  # noqa: FBT001  # it is what is asserted
    if not is_so:
        raise LawBrokenError(f"not so: {promise}")
