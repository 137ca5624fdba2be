"""What is shown of a run while it runs, with a clock that the test turns."""

import io
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine.stage import Stage
from harness.pipeline.live.time_left import Expected, RunTime, rate_text, rough
from harness.pipeline.progress import RunView
from harness.printable import terminal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def stage(name: str, kind: str = "train") -> Stage:
    return Stage(name, kind, 1, {"name": name}, {}, lambda _ctx: {})


class Run:
    """A view of a plan of these stages, with estimated seconds, and what it has shown."""

    def __init__(self, seconds: Mapping[str, float] | None = None, **options: Any) -> None:
        self.clock, self.file = Clock(), io.StringIO()
        self.stages = {name: stage(name, name.split("/")[0]) for name in seconds or {"train/dpo": 0.0}}
        self.view = RunView(terminal(file=self.file, width=80, **options), every=1e6, clock=self.clock)
        times = seconds and {s.key: Expected(s.name, seconds[name]) for name, s in self.stages.items()}
        self.view.expect(lambda: times)

    def begin(self, name: str) -> None:
        self.view.stage(self.stages[name], list(self.stages).index(name) + 1, len(self.stages))

    def work(self, items: int, seconds: float) -> None:
        self.clock.now += seconds
        self.view.advance(items)

    def end(self, name: str, seconds: float) -> None:
        self.view.done(self.stages[name], {}, seconds)

    def line(self) -> str:
        """The line that a minute brings."""
        before = len(self.file.getvalue())
        self.view.line()
        return self.file.getvalue()[before:].removesuffix("\n")


def test_a_report_is_one_line_in_which_names_of_data_stay_as_they_are() -> None:
    run = Run()
    report = {
        "train": 48,
        "left_out": {"same_text": 2, "repeated_prompts": 0},
        "ignored_columns": {"user_id": 60},
        "no_margin_kept": "nothing was trained",
        "unused": 0,
    }
    with run.view:
        run.begin("train/dpo")
        run.view.done(run.stages["train/dpo"], report, 1.25)
    shown = " ".join(run.file.getvalue().split())
    assert "1.2 s; train 48; left out: same text 2, repeated prompts 0; ignored columns: user_id 60;" in shown
    assert shown.endswith("; no margin kept: nothing was trained")


def test_a_line_says_what_is_done_how_fast_and_what_is_left() -> None:
    run = Run({"train/dpo": 600.0, "answers/dpo": 1200.0})
    with run.view:
        run.begin("train/dpo")
        run.view.start("training dpo", 1000)
        run.work(100, 60)
        line = "        training dpo: 100/1,000, 1.7/s, 9 min left; whole run: 29 min left"
        assert run.line() == line, "540 s at this rate, and 20 min as planned"
        run.work(300, 60)
        assert run.line() == "        training dpo: 400/1,000, 5/s, 2 min left; whole run: 22 min left", (
            "the last minute's"
        )
        run.work(0, 60)
        assert "400/1,000, 2.2/s, 4 min left" in run.line(), "nothing in the last minute: the whole time's"


def test_the_plan_is_corrected_by_what_has_finished() -> None:
    """Trainings take twice their time; then so do other stages, of which nothing is known yet."""
    run = Run({"train/a": 3600.0, "train/b": 3600.0, "answers/a": 3600.0, "seeds": 0.0})
    run.begin("train/a")
    run.view.start("loading", None)
    assert run.line().endswith("loading: <1 min so far; whole run: 3 h 00 min left")
    run.clock.now = 7200.0
    assert run.line().endswith("whole run: 2 h 00 min left"), "more than planned, and none of it left"
    run.end("train/a", 7200.0)
    run.begin("train/b")
    run.view.start("loading", None)
    assert run.line().endswith("whole run: 4 h 00 min left")
    run.clock.now += 7200
    run.end("train/b", 1800.0)
    run.begin("answers/a")
    run.view.start("answers", 10)
    assert run.line() == "        answers: 0/10; whole run: 1 h 15 min left"


def test_stages_that_another_run_or_the_store_had_are_not_left() -> None:
    run = Run({"train/a": 600.0, "train/b": 600.0, "train/c": 600.0})
    run.begin("train/c")
    run.view.start("c", None)
    assert run.line().endswith("whole run: 10 min left")


def test_stages_before_one_that_runs_beside_others_are_left() -> None:
    """As on a cluster, where the stages of a sweep's last cell may begin first."""
    run = Run({"train/one": 600.0, "train/two": 600.0, "train/three": 600.0})
    with run.view:
        run.begin("train/three")
        run.view.part(run.stages["train/three"], "node").start("training three", 100)
        assert run.line().endswith("whole run: 30 min left")


def test_what_nobody_can_tell_is_unknown() -> None:
    run = Run()
    run.begin("train/dpo")
    run.view.start("training dpo", None)
    run.work(30, 600)
    assert run.line() == "        training dpo: 30, 3/min; whole run: unknown"


def test_of_many_stages_at_once_a_line_names_three() -> None:
    run = Run({f"train/{i}": 600.0 for i in range(8)})
    for i in range(5):
        run.begin(f"train/{i}")
        bar = run.view.part(run.stages[f"train/{i}"], "node")
        bar.start("training", 100)
        run.clock.now += 1
        bar.advance(1)
    line = run.line()
    assert line.count("node train/") == 3
    assert "; 2 more; whole run: " in line
    run.clock.now += 60
    assert "\n" not in run.line()


def test_nothing_runs_nothing_is_said() -> None:
    run = Run()
    assert run.line() == ""


def test_a_terminal_has_a_bar_with_the_time_of_the_whole_run() -> None:
    run = Run({"train/dpo": 600.0, "train/other": 7200.0}, force_terminal=True)
    with run.view:
        run.begin("train/dpo")
        run.view.start("a description that is much too long for so narrow a terminal as this", 10000)
        run.work(100, 1)
        run.view.bars.refresh()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", run.file.getvalue())
    (frame,) = {line.rstrip() for line in re.split(r"[\r\n]+", plain) if "100/10000" in line}
    assert frame.startswith("  a description that")
    assert frame.endswith(" run: 2 h 02 min")
    assert len(frame) <= 80


def test_lines_come_by_themselves_and_end_with_the_run() -> None:
    import threading

    file, before = io.StringIO(), threading.active_count()
    came = threading.Event()
    view = RunView(terminal(file=file), every=0.01)
    view.line = came.set  # type: ignore[method-assign]
    with view:
        assert came.wait(10)
    for thread in threading.enumerate():
        if thread.name == "progress":
            thread.join(10)
    assert threading.active_count() <= before


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 100)), min_size=1, max_size=6),
    st.floats(0, 1e6),
)
def test_no_time_is_negative(stages: list[tuple[float, float, int]], later: float) -> None:
    """Whatever the estimates, the real times and the items done."""
    run = Run({f"train/{i}": planned for i, (planned, _, _) in enumerate(stages)})
    for i, (_, real, items) in enumerate(stages):
        run.begin(f"train/{i}")
        run.view.start("x", 50)
        run.work(items, real / 2)
        time: RunTime = run.view._time
        left = time.left(list(run.view.parts.values()), run.clock.now + later)
        assert left is not None
        assert left >= 0
        assert "-" not in run.line()
        run.end(f"train/{i}", real)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "<1 min"),
        (29, "<1 min"),
        (90, "2 min"),
        (3570, "1 h 00 min"),
        (5400, "1 h 30 min"),
        (2e5, "2 days"),
        (None, "unknown"),
    ],
)
def test_rough_times(seconds: float | None, text: str) -> None:
    assert rough(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1234.0, "1,234/s"), (9.96, "10/s"), (6.94, "6.9/s"), (0.07, "4.2/min"), (0.0005, "1.8/h"), (0.00001, "0.036/h")],
)
def test_rates(rate: float, text: str) -> None:
    assert rate_text(rate) == text
