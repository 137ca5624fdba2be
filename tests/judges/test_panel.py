"""Panels: the mean of the members' verdicts, each member asked on its own, and how far they agree."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from harness.boards.entry import comparable
from harness.components import build
from harness.engine.journal import content_key
from harness.engine.store import Store
from harness.errors import CostError, JudgeError, RecipeError
from harness.judges.panel import Panel
from harness.judging.asker import Asker, make_ask
from harness.judging.costs import judges_of, start_spending
from harness.judging.ledger import Ledger
from harness.judging.panel import collect_verdicts
from harness.pipeline.plan import make_plan
from harness.protocols import Judge
from harness.recipe.load import load_recipe
from harness.servers.spending import JudgeCost
from harness.stats.agreement import cohen_kappa, krippendorff_alpha
from harness.types import Ask, JudgeReply, JudgeRequest, Message, Verdict
from tests.recipe.test_systems import instructions, run, write
from tests.stand_ins import ScriptedJudge, last_text

__all__ = ["write"]  # a fixture

LONGER = {"name": "reward_model", "reward": {"name": "length"}}
SHORTER = {"name": "reward_model", "reward": {"name": "length", "prefer": "shorter"}}
WORDS = {"name": "reward_model", "reward": {"name": "length", "unit": "words"}}


def rater(name: str, rule: Callable[[str], float | None], price: float | None = 0.5) -> ScriptedJudge:
    """Rates every text by a rule of its own; None: a failed reply."""

    def reply(request: JudgeRequest) -> JudgeReply:
        rating = rule(last_text(request))
        return JudgeReply(text="", error="no idea") if rating is None else JudgeReply(text=str(rating), price=price)

    return ScriptedJudge(reply, name)


def panel_of(*members: Judge) -> Panel:
    return Panel(name="panel", judges=members)


def rated(judge: Judge, texts: Sequence[str], journals: Path) -> tuple[list[Verdict], Ledger, dict[str, Any]]:
    """(verdicts, ledger, report) of a judge that rates texts."""

    def asker(member: Judge) -> Asker:
        path = journals / f"{content_key(member.identity())[:16]}.jsonl"
        return make_ask(member, path, concurrency=2, advance=lambda _: None)

    def verdicts(ask: Ask) -> list[Verdict]:
        replies = ask([JudgeRequest(messages=(Message(role="user", content=text),)) for text in texts])
        return [
            Verdict(
                question_id=text,
                value=None if r.error else float(r.text),
                invalid=r.error,
                reply=r.text,
                detail={"price": r.price},
            )
            for text, r in zip(texts, replies, strict=True)
        ]

    return collect_verdicts(judge, asker, verdicts, "texts")


def test_the_mean_of_those_that_answered(tmp_path: Path) -> None:
    picky = rater("picky", lambda text: None if text in {"bb", "ccc"} else 4.0)
    plain = rater("plain", lambda text: None if text == "ccc" else float(len(text)))
    verdicts, ledger, report = rated(panel_of(picky, plain), ["a", "bb", "ccc", "dddd"], tmp_path)
    assert [v.value for v in verdicts] == [2.5, 2.0, None, 4.0]
    assert verdicts[2].invalid == "no member of the panel gave a verdict (picky: no idea; plain: no idea)"
    assert verdicts[1].detail["members"]["picky"]["invalid"] == "no idea"
    assert verdicts[0].detail["price"] == 1.0
    assert (ledger.asked, ledger.failed, ledger.dollars) == (5, 3, 2.5)
    assert report["panel"]["members"] == {"picky": 2, "plain": 1}
    (pair,) = report["panel"]["pairs"]
    assert (pair["agreement"]["value"], pair["agreement"]["n"], pair["agreement"]["n_invalid"]) == (0.5, 2, 2)


def test_a_member_that_is_down_stops_the_stage_though_the_others_have_answered(tmp_path: Path) -> None:
    down = ScriptedJudge(JudgeReply(text="", error="the line is dead", transient=True), "down")
    one = rater("one", lambda text: 3.0)
    with pytest.raises(JudgeError, match=r"failed to answer 2 requests about texts \(the line is dead\)"):
        rated(panel_of(one, down), ["a", "b"], tmp_path)
    again = rater("one", lambda text: 3.0)
    assert [v.value for v in rated(panel_of(again, rater("down", lambda text: 5.0)), ["a", "b"], tmp_path)[0]] == [4, 4]
    assert not again.asked


def test_with_a_member_more_only_that_one_is_asked(tmp_path: Path) -> None:
    def two() -> tuple[ScriptedJudge, ScriptedJudge]:
        return rater("one", lambda text: 1.0), rater("two", lambda text: 2.0)

    texts = [f"q{i}" for i in range(9)]
    rated(panel_of(*two()), texts, tmp_path)
    old, new = two(), rater("three", lambda text: 6.0)
    verdicts, ledger, _ = rated(panel_of(old[1], new, old[0]), texts, tmp_path)
    assert not old[0].asked
    assert not old[1].asked
    assert sorted(new.asked) == texts
    assert {v.value for v in verdicts} == {3.0}
    assert (ledger.asked, ledger.from_journal) == (9, 18)


def test_a_price_that_is_not_known_makes_the_sum_unknown(tmp_path: Path) -> None:
    priced, other = rater("priced", lambda text: 1.0), rater("other", lambda text: 1.0, price=None)
    verdicts, ledger, _ = rated(panel_of(priced, other), ["a"], tmp_path)
    assert verdicts[0].detail["price"] is None
    assert ledger.dollars is None


def test_a_single_judge_is_no_panel_of(tmp_path: Path) -> None:
    verdicts, _, report = rated(rater("one", lambda text: 7.0), ["a"], tmp_path)
    assert verdicts[0].value == 7.0
    assert "members" not in verdicts[0].detail
    assert report == {}


@given(st.lists(st.tuples(st.sampled_from([1.0, 1.5, 2.0]), st.sampled_from([1.0, 1.5, 2.0])), min_size=1))
def test_kappa_is_scikit_learns(pairs: list[tuple[float, float]]) -> None:
    found = cohen_kappa(pairs)
    if len({x for pair in pairs for x in pair}) == 1:
        assert found is None
    else:
        names = [[str(x) for x in column] for column in zip(*pairs, strict=True)]
        assert found == pytest.approx(cohen_kappa_score(*names))


def test_alpha_is_krippendorffs() -> None:
    """The example of "Computing Krippendorff's Alpha-Reliability" (2011), section E: four observers, twelve units."""
    rows = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
    observers = [[None if x == "." else float(x) for x in row.split()] for row in rows]
    assert krippendorff_alpha(list(zip(*observers, strict=True))) == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha([(1.0, 1.0), (2.0, 2.0), (1.0, 1.0)]) == 1.0
    assert krippendorff_alpha([(1.0, None), (None, 2.0)]) is None
    assert krippendorff_alpha([(2.0, 2.0), (2.0, 2.0)]) is None


@pytest.mark.slow
def test_a_panel_judges_a_recipe(write: Callable[..., Path], tmp_path: Path) -> None:
    panel = {"name": "panel", "judges": [LONGER, SHORTER, WORDS]}
    entries = run(write(panel), tmp_path / "store")
    provenance = entries["a"].provenance.plain()
    assert [j["reward"]["unit"] for j in provenance["judge"]["judges"]] == ["characters", "characters", "words"]
    report = provenance["judging"]["alpaca_eval"]["panel"]
    names = ["reward_model length 1", "reward_model length 2", "reward_model length 3"]
    assert list(report["members"]) == sorted(names)
    opposite = next(p for p in report["pairs"] if (p["first"], p["second"]) == (names[0], names[1]))
    assert opposite["agreement"]["value"] == 0.0
    # Longer and shorter cancel: what is left of the mean is the third member's third.
    alone = run(write(WORDS), tmp_path / "store")
    both = alone["a"].outcomes["alpaca_eval"], entries["a"].outcomes["alpaca_eval"]
    assert len(both[0]) == len(instructions())
    for question, value in both[0].items():
        assert value is not None
        assert both[1][question] == pytest.approx(1.5 + (value - 1.5) / 3)
    # The members' replies lie each in its own journal, where the single judge's are found, too.
    journals = sorted(p.name for p in (tmp_path / "store" / "journals").glob("verdicts-*.jsonl"))
    assert journals == sorted(
        f"verdicts-{content_key(build('judge', fields).identity())[:16]}.jsonl" for fields in (LONGER, SHORTER, WORDS)
    )
    verdicts = next((tmp_path / "store" / "artifacts").glob("*/verdicts.jsonl")).read_text().splitlines()
    assert json.loads(verdicts[0])["value"] is not None


def test_what_a_panel_costs_is_what_its_members_cost(write: Callable[..., Path], tmp_path: Path) -> None:
    def served(**fields: Any) -> dict[str, Any]:
        return {"name": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", **fields}

    def cost(*judges: dict[str, Any]) -> JudgeCost:
        judge = judges[0] if len(judges) == 1 else {"name": "panel", "judges": list(judges)}
        plan = make_plan(load_recipe(write(judge)))
        found = plan.rows[0].verdicts["alpaca_eval"].judging(Store(tmp_path / "store"))
        assert found is not None
        return found

    cheap, dear = served(price={"input": 1, "output": 1}), served(model="n", price={"input": 9, "output": 9})
    one, other, both = cost(cheap), cost(dear), cost(cheap, LONGER, dear)
    assert (both.calls, both.prompt_tokens) == (2 * one.calls, 2 * one.prompt_tokens)
    assert one.dollars is not None
    assert other.dollars is not None
    assert both.dollars == pytest.approx(one.dollars + other.dollars)
    assert cost(cheap, served(model="unheard-of")).dollars is None
    recipe = load_recipe(write({"name": "panel", "judges": [cheap, LONGER]}))
    start_spending([recipe], 1.0)
    assert [judge.name for judge in judges_of(recipe)] == ["openai", "reward_model"]
    with pytest.raises(CostError, match="the price of unheard-of is not known"):
        start_spending([load_recipe(write({"name": "panel", "judges": [cheap, served(model="unheard-of")]}))], 1.0)


@pytest.mark.parametrize(
    ("judges", "said"),
    [
        ([LONGER, LONGER], "'reward_model' is listed twice"),
        ([LONGER, {"name": "replay"}], "'replay' can't be a member"),
        ([LONGER, {"name": "panel", "judges": [LONGER, WORDS]}], "'panel' can't be a member"),
    ],
)
def test_what_is_no_panel_is_told(judges: list[dict[str, Any]], said: str) -> None:
    panel: Any = build("judge", {"name": "panel", "judges": judges})
    with pytest.raises(RecipeError, match=said):
        panel.check()


def test_it_does_not_reply_itself() -> None:
    panel: Any = build("judge", {"name": "panel", "judges": [LONGER, WORDS]})
    with pytest.raises(JudgeError, match="reward 'ensemble'"):
        panel.reply([])


@pytest.mark.slow
def test_a_benchmark_has_a_judge_of_its_own(write: Callable[..., Path], tmp_path: Path) -> None:
    recipe = json.loads(write(SHORTER).read_text())
    recipe["evaluation"]["judges"] = {"alpaca_eval": LONGER}
    (tmp_path / "own.yaml").write_text(json.dumps(recipe))
    own, same = run(tmp_path / "own.yaml", tmp_path / "store"), run(write(LONGER), tmp_path / "store")
    other = run(write(SHORTER), tmp_path / "store")
    assert own["a"].outcomes == same["a"].outcomes != other["a"].outcomes
    assert own["a"].provenance.plain()["benchmarks"]["alpaca_eval"]["judge"] == build("judge", LONGER).identity()
    # Not in one table with rows that the recipe's judge has judged.
    assert len(comparable([own["a"], other["a"]])) == 2
