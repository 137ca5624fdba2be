"""Systems that a judge compares with each other, as the rows of a board are."""

import random

import pytest
from scipy.stats import ttest_rel

from harness.judging.calibration.figures import JudgedPair, arranged
from harness.judging.calibration.siblings import compared, sibling_agreement

OFFICIAL = {"low": 10.0, "mid": 40.0, "high": 70.0}


def judged(verdict: dict[str, float] | None = None, count: int = 200, right: float = 0.8) -> list[JudgedPair]:
    """Systems that win as often as OFFICIAL says. `verdict`: what the judge always says of each; without it, the
    recorded verdict, in that share of pairs."""
    draw = random.Random(3)
    pairs = []
    for i in range(count):
        for system, rate in OFFICIAL.items():
            won = 0.95 if draw.random() < rate / 100 else 0.05
            said = (won if draw.random() < right else 1 - won) if verdict is None else verdict[system]
            pairs.append(JudgedPair(system, f"q{i}", won, said, said, 10, 10))
    return pairs


def test_pairs_of_systems_are_compared_on_what_both_answered() -> None:
    pairs = judged()
    pairs = [p for p in pairs if not (p.system == "low" and p.instruction < "q5")]
    found = compared(arranged(pairs, 1), OFFICIAL)
    assert [(c.better, c.worse, c.siblings) for c in found] == [
        ("high", "mid", True),
        ("high", "low", False),
        ("mid", "low", True),
    ]
    said = {(p.system, p.instruction): p.plain for p in pairs}
    common = [p.instruction for p in pairs if p.system == "low"]
    expected = ttest_rel([said["high", q] for q in common], [said["low", q] for q in common])
    assert found[1].prompts == len(common)
    assert found[1].official == 60
    assert found[1].ci95 == pytest.approx([100 * x for x in expected.confidence_interval()])
    assert all(c.is_significant and c.judge > 0 for c in found)


def test_a_judge_that_is_sure_of_the_wrong_system_is_significant_and_wrong() -> None:
    draw = random.Random(0)
    pairs = [
        p._replace(plain=v, switched=v)
        for p in judged()
        if (v := draw.uniform(0, 0.5) + (p.system == "low") * 0.4) is not None
    ]
    wrong = [c for c in compared(arranged(pairs, 1), OFFICIAL) if c.is_significant]
    assert len(wrong) == 2
    assert all(c.worse == "low" and c.judge < 0 for c in wrong)


def test_knowing_the_better_sibling_is_worth_nothing_and_its_answers_are() -> None:
    knows = sibling_agreement(arranged(judged({"low": 0.1, "mid": 0.5, "high": 0.9}), 50), OFFICIAL)
    assert knows.value == 50
    reads = sibling_agreement(arranged(judged(), 200), OFFICIAL)
    assert reads.value is not None
    assert reads.here is not None
    assert 70 < reads.here[0] < reads.value < reads.here[1] < 99
    assert reads.ci95 is None
    assert sibling_agreement(arranged(judged()[:1], 2), OFFICIAL).value is None


def test_without_common_instructions_nothing_is_compared() -> None:
    pairs = [p._replace(instruction=f"{p.system} {p.instruction}") for p in judged()]
    assert compared(arranged(pairs, 1), OFFICIAL) == []
    assert sibling_agreement(arranged(pairs, 2), OFFICIAL).value is None
