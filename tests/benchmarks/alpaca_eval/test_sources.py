"""What a preference comes from: log-probabilities, a text, several replies or a thoughtful one; and all evaluators of
the package that a judge can stand in for."""

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.benchmarks.alpaca_eval.annotator import AS_USUAL, Asking, OutputPair
from harness.benchmarks.alpaca_eval.evaluators import load_annotator
from harness.benchmarks.alpaca_eval.judged import sampled
from harness.benchmarks.alpaca_eval.package import package_folder
from harness.errors import RecipeError
from harness.types import Answer, JudgeReply, JudgeRequest, Verdict
from tests.benchmarks.alpaca_eval.helpers import benchmark, prompts_file
from tests.stand_ins import ScriptedAsk, last_text

ROWS = [{"instruction": f"Do thing {i}.", "output": f"Reference {i}.", "generator": "g"} for i in range(8)]


def judged(folder: Path, reply: Any, **fields: Any) -> tuple[dict[str, float | None], list[Verdict], ScriptedAsk]:
    made = benchmark(prompts=str(prompts_file(folder, ROWS)), reference="file", **fields)
    made.check()
    ask = ScriptedAsk(reply)
    answers = [
        Answer(question_id=q.id, turns=(f"Mine {i}.",), finish_reasons=(), tokens=1)
        for i, q in enumerate(made.load_questions())
    ]
    verdicts = made.verdicts(answers, [], ask)
    metrics = {name: m.value for name, m in made.metrics(answers, [], verdicts).items()}
    return metrics, verdicts, ask


def mine_first(request: JudgeRequest) -> bool:
    text = last_text(request)
    return text.index("Mine") < text.index("Reference")


def test_the_share_of_several_replies_is_the_preference(tmp_path: Path) -> None:
    def three_in_four(request: JudgeRequest) -> JudgeReply:
        mine = request.sample != 2
        return JudgeReply(text="m" if mine_first(request) == mine else "M", thought=9)

    metrics, verdicts, ask = judged(tmp_path, three_in_four, samples=4)
    assert [v.value for v in verdicts] == pytest.approx([1.75] * 8)
    assert (metrics["alpaca_eval.win_rate"], metrics["alpaca_eval.from_samples"]) == (75, 8)
    assert {"alpaca_eval.from_text", "alpaca_eval.from_logprobs"}.isdisjoint(metrics)
    assert metrics["alpaca_eval.thoughts"] == 8
    assert len(ask.requests) == 32
    assert {r.temperature for r in ask.requests} == {1.0}  # the annotator's own
    made = benchmark(prompts="builtin", samples=4)
    (note,) = made.notes({}, list(metrics))
    assert "share of several replies" in note
    assert made.requests_per_turn == 4
    assert benchmark(prompts="builtin", samples=4, orders="both").requests_per_turn == 8


def test_samples_at_temperature_0_are_copies_and_refused(tmp_path: Path) -> None:
    ranked = "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"
    with pytest.raises(RecipeError, match=r"3 replies at temperature 0, which annotator 'alpaca_eval_gpt4' prescribes"):
        judged(tmp_path, ranked, annotator="alpaca_eval_gpt4", samples=3)
    with pytest.raises(RecipeError, match="temperature: 0 are copies"):
        judged(tmp_path, "m", samples=2, temperature=0)
    metrics, _, ask = judged(tmp_path, ranked, annotator="alpaca_eval_gpt4", samples=3, temperature=0.7)
    assert {r.temperature for r in ask.requests} == {0.7}
    assert metrics["alpaca_eval.from_samples"] == 8
    plain = benchmark(prompts="builtin", annotator="alpaca_eval_gpt4")
    warm = benchmark(prompts="builtin", annotator="alpaca_eval_gpt4", temperature=0.7)
    assert warm.identity() == plain.identity() | {"temperature": 0.7}


def test_a_stated_probability_needs_two_choices(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="stated needs an annotator with two replies, and 'alpaca_eval_gpt4' has"):
        judged(tmp_path, "m", annotator="alpaca_eval_gpt4", without_logprobs="stated")


def test_a_mixture_is_visible(tmp_path: Path) -> None:
    def reply(request: JudgeRequest) -> JudgeReply:
        if "Do thing 1." in last_text(request) or "Do thing 2." in last_text(request):
            return JudgeReply(text="m")
        return JudgeReply(text="m", logprobs={"m": math.log(0.8), "M": math.log(0.2)})

    metrics, verdicts, _ = judged(tmp_path, reply)
    assert (metrics["alpaca_eval.from_text"], metrics["alpaca_eval.from_logprobs"]) == (2, 6)
    assert "A mixture" in benchmark(prompts="builtin").notes({}, list(metrics))[0]
    assert [v.detail["source"] for v in verdicts].count("text") == 2
    weighted = JudgeReply(text="m", logprobs={"m": -0.1, "M": -2.4})
    metrics, _, _ = judged(tmp_path, weighted)
    assert not [name for name in metrics if "from_" in name]
    assert benchmark(prompts="builtin").notes({}, list(metrics)) == []


def test_a_thought_that_is_still_in_the_text_decides_nothing(tmp_path: Path) -> None:
    def reply(request: JudgeRequest) -> JudgeReply:
        token = "m" if mine_first(request) else "M"
        other = {"m": "M", "M": "m"}[token]
        return JudgeReply(text=f"<think>{other}? {other}!</think>\n\n{token}", logprobs={other: -0.1, token: -3.0})

    metrics, verdicts, _ = judged(tmp_path, reply)
    assert (metrics["alpaca_eval.win_rate"], metrics["alpaca_eval.thoughts"]) == (100, 8)
    assert {(v.reply, v.detail["source"]) for v in verdicts} <= {("m", "text"), ("M", "text")}
    _, verdicts, _ = judged(tmp_path, JudgeReply(text="<think>\nm", logprobs={"m": -0.1}))
    assert {v.value for v in verdicts} == {None}
    assert all("ended in its thought" in (v.invalid or "") for v in verdicts)


def supported() -> list[str]:
    names = []
    for path in sorted((package_folder() / "evaluators_configs").glob("*/configs.yaml")):
        with contextlib.suppress(RecipeError):
            names.append(load_annotator(path.parent.name).name)
    return names


def in_its_form(name: str, first: bool) -> JudgeReply:
    """A judge's reply that the first, or the second output is better, as the evaluator asks for it."""
    annotator = load_annotator(name)
    ranks = [1, 2] if first else [2, 1]
    if annotator.choices:
        token = annotator.choices[not first]
        return JudgeReply(text=f"Because.\n{token}" if annotator.explains else token)
    if name.endswith("_fn") and annotator.options["function"]:
        names = ("m", "M") if '"m"' in json.dumps(annotator.config) else ("model_1", "model_2")
        models = [{"model": n, "rank": r} for n, r in zip(names, ranks, strict=True)]
        best = {"best_output": f"Output ({'a' if first else 'b'})"}
        return JudgeReply(text=json.dumps(best if name == "chatgpt_fn" else {"ordered_models": models}))
    texts: dict[str | None, Callable[[], str]] = {
        "ranking_parser": lambda: repr(
            [{"model": f"model_{i}", "rank": r} for i, r in zip((1, 2), ranks, strict=True)]
        ),
        "lmsys_parser": lambda: "9 3\nWell." if first else "3 9\nWell.",
        None: lambda: f"Output ({'a' if first else 'b'})",
    }
    return JudgeReply(text=texts[annotator.config.get("fn_completion_parser")]())


@pytest.mark.parametrize("name", supported())
def test_every_evaluator_that_is_taken_reads_its_own_form(name: str) -> None:
    pairs = [OutputPair(str(i), f"Do {i}.", f"Reference {i}.", f"Mine {i}.") for i in range(2)]
    ask = ScriptedAsk(lambda request: in_its_form(name, mine_first(request)))
    for switched in (False, True):
        verdicts = sampled(load_annotator(name), pairs, ask, AS_USUAL, switched=switched)
        assert [v.value for v in verdicts] == [2.0, 2.0], verdicts[0].invalid
    options = load_annotator(name).config["completions_kwargs"]
    assert ask.requests[0].max_tokens == options.get("max_tokens", options.get("max_tokens_to_sample"))
    assert (ask.requests[0].function is not None) == ("tools" in options)


def test_most_of_the_packages_evaluators_are_taken() -> None:
    assert len(supported()) == 29
    assert {"alpaca_eval_gpt4", "chatgpt", "claude_3_opus_ranking", "alpaca_eval_gpt4_fn"} <= set(supported())


EXPLAINED = [
    ("It is terse.\n\n### Which is best, m or M?\nM", {}, "M"),
    ("Both are fine. **m**", {}, "m"),
    ("I would choose them", {}, None),
    ("That is what I'm", {}, None),
    ("Neither is good.", {}, None),
    ("The better one is M", {"cut": True}, None),
    ("Fine.\nM", {"logprobs": {"M": math.log(0.25), "m": math.log(0.75)}}, "m by 75 %"),
]


@pytest.mark.parametrize(("text", "more", "token"), EXPLAINED)
def test_an_explanation_ends_with_the_choice(text: str, more: dict[str, Any], token: str | None) -> None:
    annotator = load_annotator("weighted_alpaca_eval_cot_gpt4_turbo")
    assert annotator.explains
    ask = ScriptedAsk(JudgeReply(text=text, **more))
    pairs = [OutputPair("0", "Do it.", "Reference.", "Mine.")]
    (verdict,) = sampled(annotator, pairs, ask, Asking(), switched=False)
    assert ask.requests[0].asks == "last"
    # The reference is shown first, as m.
    assert verdict.value == (None if token is None else pytest.approx({"m": 1.0, "M": 2.0, "m by 75 %": 1.25}[token]))
    assert (verdict.invalid is None) == (token is not None)
