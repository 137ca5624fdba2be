"""Figures of which less is better: in gates, comparisons and colours."""

from pathlib import Path

import pytest

from harness.boards.entry import Entry
from harness.figures import Figure, Pairing
from harness.gate.check import INCONCLUSIVE, PASS, WORSE, run_gate
from harness.gate.margins import Check
from harness.report.page import write_page
from harness.report.write import write_board
from harness.types import Metric

SECONDS = Figure(
    metric="speed.seconds",
    group="Speed",
    title="seconds an answer",
    unit="s",
    higher_is_better=False,
    margin=0.5,
    pairing=Pairing(),
    compared=True,
)


def row(name: str, extra: float) -> Entry:
    times = {f"q{i}": 2 + 0.01 * (i % 7) + extra for i in range(120)}
    mean = sum(times.values()) / len(times)
    judged = {"judge": {"name": "clock"}, "benchmarks": {"speed": {"name": "speed"}}}
    return Entry(
        id=name,
        method="system",
        metrics={"speed.seconds": Metric(value=mean, ci95=(mean - 0.1, mean + 0.1), n=len(times))},
        provenance=judged,
        outcomes={"speed": times},
        figures=(SECONDS,),
    )


@pytest.mark.parametrize(("extra", "code"), [(-1.0, PASS), (0.1, PASS), (2.0, WORSE)])
def test_a_gate_lets_the_faster_row_pass(extra: float, code: int) -> None:
    result = run_gate(row("new", extra), row("old", 0.0), Check(metric="speed.seconds"))
    assert result.code == code, result.reason
    assert f"speed.seconds {f'{extra:+.1f}'.replace('-', '−')} s, lower is better" in result.reason
    assert result.test is not None
    assert result.test.difference == pytest.approx(-extra)  # negative is worse, whatever the figure
    assert result.check.margin == 0.5  # the figure's own


def test_the_floor_is_a_ceiling() -> None:
    assert run_gate(row("new", 0.0), None, Check(metric="speed.seconds", minimum=3.0)).code == PASS
    slow = run_gate(row("new", 2.0), None, Check(metric="speed.seconds", minimum=3.0))
    assert slow.code == WORSE
    assert "above the ceiling of 3 s" in slow.reason
    assert run_gate(row("new", 0.97), None, Check(metric="speed.seconds", minimum=3.0)).code == INCONCLUSIVE


def test_colours_say_which_row_is_better(tmp_path: Path) -> None:
    write_board(tmp_path, "speed", [row("slow", 1.0), row("fast", 0.0)])
    page = write_page(tmp_path).read_text()
    matrix = page.split("<table class=matrix>")[1].split("</table>")[0]
    slow, fast = matrix.split("<tbody>")[1].split("</tr>")[:2]
    assert "class=down" in slow
    assert "class=up" in fast
