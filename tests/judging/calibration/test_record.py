"""What is kept of a calibration, what the judge is called by it, and the line that boards show."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from harness.boards.entry import Entry
from harness.boards.facts import calibration as calibration_on
from harness.components import build
from harness.errors import DataError
from harness.files import fitted_pairs, pair_hash
from harness.judging.calibration.figures import JudgedPair, arranged, calibration_figures
from harness.judging.calibration.record import Calibration, SystemRates, calibration_of, save_calibration
from harness.judging.calibration.siblings import compared, sibling_agreement
from harness.types import Metric
from tests.judging.calibration.helpers import rates

OFFICIAL = "weighted_alpaca_eval_gpt4_turbo"


def recorded(systems: int = 5, count: int = 80) -> list[JudgedPair]:
    """Systems of rising win rates, whose answers win independently of their lengths."""
    draw = random.Random(7)
    return [
        JudgedPair(f"s{s}", f"q{i}", draw.choice([0.6, 0.98]) if draw.random() < (s + 1) / 7 else 0.1, 0.5, 0.5, 99, n)
        for s in range(systems)
        for i in range(count)
        for n in [draw.randint(1, 200)]
    ]


def judged(verdict: Callable[[JudgedPair], float | None], systems: int = 5, **changes: Any) -> Calibration:
    pairs = [p._replace(plain=v, switched=v) for p in recorded(systems) for v in [verdict(p)]]
    sample, official = arranged(pairs, 200), rates(pairs)
    own = {s: [p.plain for p in pairs if p.system == s and p.plain is not None] for s in official}
    fields = {
        "version": 2,
        "judge": {"name": "j", "model": "m"},
        "annotator": OFFICIAL,
        "template_sha256": "0",
        "official": OFFICIAL,
        "pairs": len(pairs),
        "seed": 0,
        "figures": calibration_figures(sample, official),
        "siblings": sibling_agreement(sample, official),
        "comparisons": tuple(compared(sample, official)),
        "systems": {
            s: SystemRates(official=r, recorded=r, judge=100 * sum(own[s]) / len(own[s]) if own[s] else None, pairs=80)
            for s, r in official.items()
        },
        "left_out": {},
        "recorded_sha256": {},
    }
    return Calibration(**(fields | changes))


def noisy(share: float) -> Callable[[JudgedPair], float]:
    draw = random.Random(5)
    return lambda p: 1 - p.won if draw.random() < share else p.won


def test_a_calibration_is_found_by_the_judge_that_it_is_of() -> None:
    kept = judged(noisy(0.2))
    path = save_calibration(kept)
    assert calibration_of({"model": "m", "name": "j"}, OFFICIAL) == kept
    assert calibration_of({"name": "j", "model": "n"}, OFFICIAL) is None
    assert calibration_of(kept.judge, "alpaca_eval_gpt4") is None
    assert calibration_of(kept.judge, OFFICIAL, {"samples": 5}) is None
    save_calibration(sampled := kept.model_copy(update={"asked": {"samples": 5}}))
    assert calibration_of(kept.judge, OFFICIAL, {"samples": 5}) == sampled
    old = {name: value for name, value in json.loads(path.read_text()).items() if name not in ("version", "siblings")}
    path.write_text(json.dumps(old))
    assert calibration_of(kept.judge, OFFICIAL) is None  # of an earlier version, whose figures were others
    path.write_text("{}")
    with pytest.raises(DataError, match="not a calibration; delete it"):
        calibration_of(kept.judge, OFFICIAL)


def test_a_judge_is_called_what_it_was_measured_to_be() -> None:
    coin = random.Random(1)
    verdicts: dict[str, Callable[[JudgedPair], float | None]] = {
        "informative": noisy(0.1),
        "at_chance": lambda p: coin.random(),
        "not_measured": lambda p: None,
    }
    for name, verdict in verdicts.items():
        assert judged(verdict).verdict == name
    assert judged(noisy(0.1), systems=3).verdict == "local"  # nothing is known of other systems
    assert judged(lambda p: 1 - p.won).verdict == "at_chance"  # or worse
    assert judged(lambda p: p.won if p.system == "s4" else 0.5).verdict != "informative"


def test_a_judge_that_only_measures_length_is_weak() -> None:
    pairs = [p._replace(length=150 if p.won > 0.5 else 60) for p in recorded()]
    draw = random.Random(3)
    pairs = [p if draw.random() < 0.7 else p._replace(length=210 - p.length) for p in pairs]
    pairs = [p._replace(plain=p.length / 300, switched=p.length / 300) for p in pairs]
    sample = arranged(pairs, 200)
    found = judged(noisy(0), figures=calibration_figures(sample, rates(pairs)))
    assert found.verdict == "weak"
    assert found.text.endswith("; not shown to beat 'the longer answer wins'")


def test_its_line_leads_with_the_agreement_within_a_system() -> None:
    kept = judged(noisy(0.1))
    within = kept.figures["agreement"]
    assert within.here is not None
    assert within.ci95 is not None
    assert kept.text.startswith(
        f"agreement within a system {within.value:.0f} % ({within.here[0]:.0f} to {within.here[1]:.0f} %) with GPT-4 "
        f"Turbo on 400 pairs of 5 systems, chance is 50 %; on another system {within.ci95[0]:.0f} to "
        f"{within.ci95[1]:.0f} % (95 % prediction interval); between siblings "
    )
    assert "% have the official sign" in kept.text
    assert judged(lambda p: 0.1).text.endswith("; no better than chance")
    assert judged(lambda p: 1 - p.won).text.endswith("; worse than chance")
    siblings = judged(noisy(0.1)).siblings.model_copy(update={"value": 50.0, "here": (45.0, 55.0)})
    above = judged(noisy(0.1), siblings=siblings)
    assert above.verdict == "at_chance"
    assert above.text.endswith("; no better than chance between similar systems")
    assert above.equivalent(Metric(value=40.0, stderr=2.0, n=400)) is None
    assert judged(noisy(0.1)).equivalent(Metric(value=40.0, stderr=2.0, n=400)) is not None
    assert "too few systems to say anything about another one" in judged(noisy(0.1), systems=2).text
    assert judged(lambda p: None).text.startswith("no agreement within a system with GPT-4 Turbo could be measured")
    assert "fitted on 100 of these 500 pairs, which are left out" in judged(noisy(0.1), fitted_on=100).text
    assert "800 of 800 verdicts missing" in judged(lambda p: None).text


def test_a_board_keeps_it_as_a_record_and_old_texts_load() -> None:
    kept = judged(noisy(0.2))
    equivalent = kept.equivalent(Metric(value=40.0, stderr=2.0, n=400))
    assert equivalent is not None
    provenance = {"judge": kept.judge, "judge_calibration": kept.on_board({"alpaca_eval.win_rate": equivalent})}
    entry = Entry.model_validate_json(Entry(id="x", method="base", provenance=provenance).model_dump_json())
    found = calibration_on(entry)
    assert found is not None
    assert (found.verdict, found.text) == (kept.verdict, kept.text)
    assert found.equivalents["alpaca_eval.win_rate"].systems == 5
    texts = {"80 %": "unknown", "uncalibrated": "uncalibrated", None: "uncalibrated", "": "uncalibrated"}
    for text, verdict in texts.items():
        old = calibration_on(Entry(id="x", method="base", provenance={"judge": kept.judge, "judge_calibration": text}))
        assert old is not None
        assert old.verdict == verdict
    assert calibration_on(Entry(id="x", method="base")) is None


def test_the_shipped_judge_has_its_calibration_and_says_what_it_was_fitted_on() -> None:
    judge = build("judge", {"name": "reward_model", "reward": {"name": "features", "weights": "gpt4_turbo"}})
    found = calibration_of(judge.identity(), OFFICIAL)
    assert found is not None
    assert (found.pairs, found.refits, len(found.systems)) == (4812, 12, 6)
    assert found.text.startswith("agreement within a system 71 % (68 to 74 %) with GPT-4 Turbo on 4,812 pairs")
    assert found.verdict == "weak"
    assert len(judge.fitted_on()) == 1197


def test_a_list_of_fitted_pairs_is_read_or_told(tmp_path: Any) -> None:
    assert fitted_pairs(tmp_path) == frozenset()
    assert pair_hash("p", ("a", "b")) == pair_hash("p", ("b", "a")) != pair_hash("p", ("a", "c"))
    (tmp_path / "fitted_on.json").write_text('["a", "b"]')
    assert fitted_pairs(tmp_path) == {"a", "b"}
    (tmp_path / "fitted_on.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="expected a JSON list of texts"):
        fitted_pairs(tmp_path)
