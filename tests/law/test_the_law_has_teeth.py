"""The suite fails for a bridge that does wrong, and names what is wrong."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import Phase, settings

from rldk.errors import SourceError
from rldk.testing import runs
from rldk.testing.conformance import BridgeConformance, renamed
from rldk.testing.courier import Course, UndeliveredError
from rldk.testing.law import LawBrokenError, check_read_back, check_round_trip
from tests.law._toy import Point, ToyAdapter, ToySink


class _DropsNaN(ToySink):
    def points(self, event):
        return [p for p in super().points(event) if p.value == p.value]  # NaN does not equal itself


class _WritesZeroForMissing(ToySink):
    def points(self, event):
        named = {p.name: p for p in super().points(event)}
        zero = Point(event.time, event.step, "rldk/kl_mean", 0.0)
        is_trained = event.kind == "metrics" and event.phase == "train"
        return list((({zero.name: zero} if is_trained else {}) | named).values())


class _SwapsStepAndSeq(ToySink):
    def points(self, event):
        return [p._replace(step=event.seq) for p in super().points(event)]


class _RoundsToFloat32(ToySink):
    def points(self, event):
        points = super().points(event)
        return [p._replace(value=struct.unpack("f", struct.pack("f", p.value))[0]) for p in points]


class _LosesTheLastEvent(ToySink):
    def send(self, events):
        super().send(events[:-1])


class _MergesEvalIntoTrain(ToySink):
    def points(self, event):
        return [p._replace(name=p.name.replace("eval/", "")) for p in super().points(event)]


class _IsAMillisecondLate(ToySink):
    def points(self, event):
        return [p._replace(time=round(p.time + 0.001, 3)) for p in super().points(event)]


class _LosesTokens(ToySink):
    def points(self, event):
        return [p for p in super().points(event) if "/data/" not in p.name]


class _RefusesOneStep(ToySink):
    def send(self, events):
        if any(event.step == 2 for event in events):
            raise ConnectionError("always")
        super().send(events)


class _ForgetsSupersededAttempts(ToyAdapter):
    def events(self, *, repeats=False):
        read = list(super().events(repeats=repeats))
        newest = {(e.kind, e.phase, e.step): e.segment for e in read if e.kind == "metrics"}
        for event in read:
            if event.segment == newest.get((event.kind, event.phase, event.step), event.segment):
                yield event


class _ForgetsRestarts(ToyAdapter):
    def events(self, *, repeats=False):
        for event in super().events(repeats=repeats):
            yield msgspec.structs.replace(event, model_info=event.model_info | {"segment": 0})


class _TurnsTimeBack(ToyAdapter):
    def events(self, *, repeats=False):
        first, *rest = super().events(repeats=repeats)
        yield from [first, *reversed(rest)]


class _ForgetsTheTrainer(ToyAdapter):
    forgets = "trainer"

    def events(self, *, repeats=False):
        for event in super().events(repeats=repeats):
            kept = {name: value for name, value in event.model_info.items() if name != self.forgets}
            yield msgspec.structs.replace(event, model_info=kept)


class _ForgetsWhatIsContinued(_ForgetsTheTrainer):
    forgets = "continues"


class _TakesEveryTrainerForGRPO(ToyAdapter):
    def events(self, *, repeats=False):
        for event in super().events(repeats=repeats):
            told = {"trainer": "GRPO"} if "trainer" in event.model_info else {}
            yield msgspec.structs.replace(event, model_info=event.model_info | told)


class _SaysThatItContinuesItself(ToyAdapter):
    def events(self, *, repeats=False):
        for event in super().events(repeats=repeats):
            told = {"continues": event.run_id} if event.kind == "run" else {}
            yield msgspec.structs.replace(event, model_info=told | event.model_info)


class _ReadsNothing(ToyAdapter):
    def events(self, *, repeats=False):
        return iter(())


class _FindsNoRun(ToyAdapter):
    def events(self, *, repeats=False):
        raise SourceError(self.source, "there is no such run", "check its id")
        yield


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        (_DropsNaN, "row 0 .*step=1.*column 'kl_mean': sent nan, read back nothing"),
        (_WritesZeroForMissing, "row 2 .*step=2.*column 'kl_mean': sent nothing, read back 0"),
        (_SwapsStepAndSeq, "row 1 .*step=1, phase='eval'.* is not read back"),
        (_RoundsToFloat32, "row 2 .*step=2.*column 'loss': sent 0.3, read back 0.30000001192092896"),
        (_LosesTheLastEvent, "row 2 .*step=2.* is not read back"),
        (_MergesEvalIntoTrain, "row 0 .*column 'loss': sent 0.5, read back 0.75"),
        (_IsAMillisecondLate, "row 0 .*column 'wall_time': sent 1, read back 1.001"),
        (_LosesTokens, "row 0 .*column 'tokens_in': sent 1000, read back nothing"),
    ],
)
def test_a_sink_that_does_wrong_is_caught(tmp_path, sink, said):
    """With the first row and column that differ, and both values."""
    with pytest.raises(LawBrokenError, match=said):
        check_round_trip(renamed(runs.short_run()), sink, ToyAdapter, tmp_path)


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (_ForgetsSupersededAttempts, r"attempts='all': row 2 .*step=2.*segment=0.* is not read back"),
        (_ForgetsRestarts, r"starts of the training .*sent .*\(1, 1, .*read back .*\(0, 1, "),
        (_ForgetsTheTrainer, r"trainer of the run: sent 'GRPO', read back nothing"),
        (_SaysThatItContinuesItself, r"continues of the run: sent nothing, read back 'law-"),
        (_TurnsTimeBack, r"times do not grow"),
        (_ReadsNothing, r"nothing is read back"),
    ],
)
def test_an_adapter_that_does_wrong_is_caught(tmp_path, adapter, said):
    """The same, for the way back."""
    with pytest.raises(LawBrokenError, match=said):
        check_round_trip(renamed(runs.short_run()), ToySink, adapter, tmp_path)


def test_what_a_later_segment_says_of_the_run_is_the_last_word(tmp_path):
    """A tracker keeps one trainer, and one run that is continued; what says nothing takes nothing back."""
    said = iter([{"trainer": "PPO", "continues": "another-run"}, {"trainer": "DPO"}])
    events = [
        msgspec.structs.replace(e, model_info=e.model_info | next(said)) if e.kind == "run" else e
        for e in renamed(runs.short_run())
    ]
    home = check_round_trip(events, ToySink, ToyAdapter, tmp_path)
    read = [event.model_info for event in ToyAdapter(home.source).events() if event.kind == "run"]
    assert {(info["trainer"], info["continues"]) for info in read} == {("DPO", "another-run")}
    with pytest.raises(LawBrokenError, match="continues of the run: sent 'another-run', read back nothing"):
        check_read_back(events, home.source, ToySink, _ForgetsWhatIsContinued)


def test_an_adapter_that_finds_no_run_is_caught(tmp_path):
    """Only a run without a number may be refused."""
    with pytest.raises(SourceError, match="no such run"):
        check_round_trip(renamed(runs.short_run()), ToySink, _FindsNoRun, tmp_path)
    check_round_trip(renamed(runs.short_run()[:1]), ToySink, _FindsNoRun, tmp_path)


class _AppendsOnReplay(ToySink):
    def send(self, events):
        self.run.points += [point for event in events for point in self.points(event)]


class _ReadsAllThatIsThere(ToyAdapter):
    """As an adapter of a tracker that appends: with `repeats` it gives each as often as it is there."""

    def events(self, *, repeats=False):
        for event in super().events():
            yield from [event] * (self.times(event) if repeats and event.metrics else 1)

    def times(self, event):
        name = f"rldk/{next(iter(event.metrics))}"
        return max(sum((p.name, p.time) == (name, event.time) for p in self.run().points), 1)


@pytest.mark.parametrize("course", [Course(is_repeated=True), Course(mishaps=("lost",))])
def test_a_sink_that_appends_what_is_there_is_caught(tmp_path, course):
    """An event that reached the tracker twice though the sink could have known, is there twice."""

    class _NeverLooks(_AppendsOnReplay):
        def settle(self, receipt):
            return 0.0

    said = r"point 'rldk/\w+' at step 1, time 1763847601.123, value .*: sent 1 times, read back [2-9] times"
    with pytest.raises(LawBrokenError, match=said):
        check_round_trip(renamed(runs.short_run()), _NeverLooks, _ReadsAllThatIsThere, tmp_path, course)


def test_a_sink_that_does_not_take_a_run_is_caught(tmp_path, monkeypatch):
    """With its own words."""
    monkeypatch.setattr("rldk.testing.courier._MOST_FAILING_S", 0.5)
    with pytest.raises(UndeliveredError, match="wait: send failed: ConnectionError: always"):
        check_round_trip(renamed(runs.short_run()), _RefusesOneStep, ToyAdapter, tmp_path)


class _FoldsCase(ToySink):
    def points(self, event):
        return [p._replace(name=p.name.lower()) for p in super().points(event)]


class _CutsNames(ToySink):
    def points(self, event):
        return [p._replace(name=p.name[:250]) for p in super().points(event)]


class _LosesSignOfZero(ToySink):
    def points(self, event):
        return [p._replace(value=p.value + 0) for p in super().points(event)]


class _LosesFiles(ToyAdapter):
    def files(self, into):
        return []


class _RaisesAtOddText(ToyAdapter):
    def can_handle(self):
        return bool(self.source.encode("ascii"))


class _NamesRunsTwice(ToyAdapter):
    def runs(self):
        return [self.source] * 2


class _IsAlwaysAttached(ToySink):
    @classmethod
    def attach(cls):
        return cls()


class _SaysLittle(ToySink):
    losses = ("names",)


def suite_of(sink, adapter):
    """The suite for a bridge; it looks long enough to find what one run in twenty shows."""
    suite = BridgeConformance()
    suite.sink, suite.adapter = sink, adapter
    suite.profile = settings(suite.profile, max_examples=300, phases=[Phase.generate], database=None)
    return suite


@pytest.mark.parametrize(
    ("sink", "adapter", "test"),
    [
        (_DropsNaN, ToyAdapter, "test_any_run_comes_back"),
        (_WritesZeroForMissing, ToyAdapter, "test_any_run_comes_back"),
        (_SwapsStepAndSeq, ToyAdapter, "test_any_run_comes_back"),
        (_LosesTheLastEvent, ToyAdapter, "test_any_run_comes_back"),
        (_MergesEvalIntoTrain, ToyAdapter, "test_any_run_comes_back"),
        (_IsAMillisecondLate, ToyAdapter, "test_any_run_comes_back"),
        (ToySink, _ForgetsSupersededAttempts, "test_any_run_comes_back"),
        (ToySink, _ForgetsTheTrainer, "test_any_run_comes_back"),
        (ToySink, _ForgetsWhatIsContinued, "test_any_run_comes_back"),
        (ToySink, _TakesEveryTrainerForGRPO, "test_any_run_comes_back"),
        (ToySink, _SaysThatItContinuesItself, "test_any_run_comes_back"),
        (_FoldsCase, ToyAdapter, "test_any_name_and_number_comes_back"),
        (_CutsNames, ToyAdapter, "test_any_name_and_number_comes_back"),
        (_LosesSignOfZero, ToyAdapter, "test_any_name_and_number_comes_back"),
        (ToySink, _LosesFiles, "test_files_come_back"),
        (ToySink, _NamesRunsTwice, "test_a_source_names_its_runs"),
    ],
)
def test_each_test_of_the_suite_has_something_to_find(tmp_path, sink, adapter, test):
    """Among generated runs, too."""
    with pytest.raises(LawBrokenError):
        getattr(suite_of(sink, adapter), test)(tmp_path)


@pytest.mark.parametrize(
    ("sink", "adapter", "test", "error"),
    [
        (ToySink, _RaisesAtOddText, "test_an_adapter_judges_any_text", UnicodeEncodeError),
        (_IsAlwaysAttached, ToyAdapter, "test_nothing_is_attached_without_a_run", LawBrokenError),
        (_SaysLittle, ToyAdapter, "test_losses_are_sentences", LawBrokenError),
    ],
)
def test_promises_are_kept_without_a_run(sink, adapter, test, error):
    """The same, for what needs no run."""
    with pytest.raises(error):
        getattr(suite_of(sink, adapter), test)()
