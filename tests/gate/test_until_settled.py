"""`--until-settled`: a judge is asked about more and more prompts, and no more than are needed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.boards.read import read_board
from harness.errors import CostError, HarnessError, RecipeError
from harness.gate.check import INCONCLUSIVE, PASS, REFUSED, WORSE, Result
from harness.gate.margins import Check
from harness.pipeline.progress import SilentView
from harness.pipeline.run import run_study
from harness.pipeline.settle import BATCH, until_settled
from harness.recipe.load import load_study
from tests.fake_server import Body, FakeServer, completion

PROMPTS = 120
WORDS = "An answer of some length about question {i}, as others give it, in {style} words. [{name}]"
PRICE = {"input": 100, "output": 300}


class Judge:
    """Prefers the row's answer by its name: `good` mostly wins over the reference, `bad` mostly loses, `same` as often
    as `old`. It shows how many prompts of each row it was asked about."""

    wins = {"good": 0.9, "old": 0.6, "same": 0.6, "bad": 0.2}  # noqa: RUF012

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, body: Body) -> Any:
        text = body["messages"][-1]["content"]
        (name,) = set(re.findall(r"\[(good|old|same|bad)\]", text))
        number = int(re.findall(r"about question (\d+),", text)[0])
        self.asked.append(f"{name} {number}")
        wins = (number * 37 % PROMPTS) / PROMPTS < self.wins[name]
        ours_first = text.index(f"[{name}]") < text.index("[reference]")
        best, other = ("m", "M") if wins == ours_first else ("M", "m")
        usage = {"prompt_tokens": 100, "completion_tokens": 1}
        return completion(best, {best: -0.001, other: -9.0}, usage=usage)


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def recipe(judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    questions = [f"What about question {i}?" for i in range(PROMPTS)]

    def rows(name: str) -> list[dict[str, str]]:
        style = {"reference": "usual", "good": "fine", "old": "older", "same": "other", "bad": "poor"}[name]
        texts = [WORDS.format(i=i, style=style, name=name) + f" {'xyz'[i % 3] * (i % 40)}" for i in range(PROMPTS)]
        return [
            {"instruction": q, "output": text, "generator": name, "dataset": "x"}
            for q, text in zip(questions, texts, strict=True)
        ]

    for name in ("reference", *Judge.wins):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows(name)))
    with FakeServer(judge).running() as server:
        served = {"name": "openai", "model": "judge-1", "base_url": server.url, "price": PRICE, "max_retries": 0}
        benchmark = {"name": "alpaca_eval", "prompts": "reference.json", "reference": "file"}
        written = {
            "name": "asked",
            "evaluation": {"judge": served, "benchmarks": [benchmark]},
            "systems": [{"id": name, "answers": {"alpaca_eval": f"{name}.json"}} for name in Judge.wins],
        }
        (tmp_path / "x.yaml").write_text(json.dumps(written))
        yield tmp_path / "x.yaml"


def settle(recipe: Path, row: str, max_cost: float | None = None, **check: Any) -> Result:
    study, store = load_study(recipe), recipe.parent / "store"
    return until_settled(study, Check(allow=True, **check), row, "old", store, SilentView(), max_cost)


@pytest.mark.slow
def test_clear_truths_need_few_prompts(recipe: Path, judge: Judge) -> None:
    better = settle(recipe, "good", margin=10)
    assert better.code == PASS, better.reason
    asked = len(judge.asked)
    assert asked <= 2 * PROMPTS / 2
    assert asked % (2 * BATCH) == 0
    assert re.match(
        r"alpaca_eval.win_rate \+[\d.]+ points \(one-sided 95 % bounds [−\d.]+ and [\d.]+, valid at every n\) "
        r"after \d+ of 120 prompts: not worse than allowed \(margin 10\); the judge was paid \$",
        better.reason,
    )
    # Replies are kept: the same question costs nothing, and other rows reuse the baseline's.
    again = settle(recipe, "good", margin=10)
    assert again.reason.rpartition(";")[0] == better.reason.rpartition(";")[0]
    assert len(judge.asked) == asked
    worse = settle(recipe, "bad")
    assert (worse.code, "worse than allowed (margin 2)" in worse.reason) == (WORSE, True)
    assert len(set(judge.asked)) == len(judge.asked)


@pytest.mark.slow
def test_what_is_not_clear_is_asked_to_the_end_and_a_run_asks_nothing_again(recipe: Path, judge: Judge) -> None:
    result = settle(recipe, "same")
    assert (result.code, "after 120 of 120 prompts: not settled" in result.reason) == (INCONCLUSIVE, True)
    assert len(judge.asked) == 2 * PROMPTS
    first = judge.asked[: 2 * BATCH]
    assert len({int(asked.split()[1]) for asked in first}) == BATCH  # the same prompts for both rows
    assert sorted(int(asked.split()[1]) for asked in first[:BATCH]) != list(range(BATCH))  # in a random order
    done = run_study(load_study(recipe), recipe.parent / "boards", recipe.parent / "store", SilentView())
    assert sum(asked.startswith(("same", "old")) for asked in judge.asked) == 2 * PROMPTS
    rows = {entry.id: entry for entry in read_board(done.folder).entries}
    difference = (rows["same"].value("alpaca_eval.win_rate") or 0) - (rows["old"].value("alpaca_eval.win_rate") or 0)
    shown = f"{difference:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")
    assert result.reason.startswith(f"alpaca_eval.win_rate {shown} points")


def test_it_ends_with_the_money(recipe: Path, judge: Judge) -> None:
    result = settle(recipe, "same", max_cost=0.6)
    assert result.code == INCONCLUSIVE
    assert "stopped before exceeding --max-cost 0.6" in result.reason
    assert len(judge.asked) < 2 * PROMPTS
    assert 0.01 * len(judge.asked) <= 0.6


@pytest.mark.parametrize(
    ("row", "options", "said"),
    [
        ("goood", {}, "no row 'goood'; did you mean 'good'"),
        ("good", {"metric": "mt_bench.score"}, "does not measure 'mt_bench'"),
        ("good", {"metric": "alpaca_eval.lc_win_rate"}, "tests means over prompts"),
        ("good", {"margin": "10%"}, "takes a margin in points"),
        ("good", {"margin": 100}, "differs by at most 100"),
        ("good", {"minimum": 50}, "tests no floor"),
    ],
)
def test_what_it_can_not_do_is_one_line(recipe: Path, judge: Judge, row: str, options: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        settle(recipe, row, **options)
    assert not judge.asked


def test_a_judge_without_a_price_has_no_limit(recipe: Path, judge: Judge) -> None:
    recipe.write_text(recipe.read_text().replace(json.dumps(PRICE), "null"))
    with pytest.raises(CostError, match="can't be kept"):
        settle(recipe, "good", max_cost=1)
    assert not judge.asked


def test_a_flagged_row_is_asked_nothing(recipe: Path, judge: Judge) -> None:
    rows = json.loads((recipe.parent / "good.json").read_text())
    same = [{**row, "output": "I [good] always win, whatever you ask me, and about question 1, too."} for row in rows]
    (recipe.parent / "good.json").write_text(json.dumps(same))
    study = load_study(recipe)
    result = until_settled(study, Check(), "good", "old", recipe.parent / "store", SilentView())
    assert (result.code, "near-equal to one" in result.reason) == (REFUSED, True)
    assert not judge.asked


def test_recorded_verdicts_can_not_be_asked_for_more(recipe: Path) -> None:
    written = json.loads(recipe.read_text())
    written["evaluation"]["judge"] = {"name": "replay"}
    for system in written["systems"]:
        system["verdicts"] = system["answers"]
    recipe.write_text(json.dumps(written))
    with pytest.raises(HarnessError, match=r"recorded|verdicts"):
        settle(recipe, "good")
