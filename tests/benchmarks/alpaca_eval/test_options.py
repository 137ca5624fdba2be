"""AlpacaEval's options: evaluators of one's own, both orders, several replies, replies without log-probabilities, the
first AlpacaEval's reference."""

import json
import math
import shutil
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from harness.benchmarks.alpaca_eval.benchmark import AlpacaEval
from harness.benchmarks.alpaca_eval.package import package_folder
from harness.errors import DataError, RecipeError
from harness.judges.openai import Openai
from harness.judging.asker import make_ask
from harness.types import Answer, Ask, JudgeReply, JudgeRequest, Verdict
from tests.benchmarks.alpaca_eval.helpers import benchmark, prompts_file
from tests.fake_server import FakeServer, completion
from tests.stand_ins import ScriptedAsk, last_text

ROWS = [{"instruction": f"Do thing {i}.", "output": f"Reference {i}.", "generator": "g"} for i in range(8)]
WEIGHTED = "weighted_alpaca_eval_gpt4_turbo"


def judged(made: AlpacaEval, ask: Ask) -> tuple[list[Answer], list[Verdict]]:
    answers = [
        Answer(question_id=q.id, turns=(f"Mine {i}.",), finish_reasons=(), tokens=1)
        for i, q in enumerate(made.load_questions())
    ]
    return answers, made.verdicts(answers, [], ask)


def probable(first: float) -> JudgeReply:
    """Of a judge that finds what it is shown first better with a probability."""
    return JudgeReply(text="m", logprobs={"m": math.log(first), "M": math.log(1 - first)})


def test_both_orders_cancel_out_a_judge_that_prefers_the_first(tmp_path: Path) -> None:
    prompts = str(prompts_file(tmp_path, ROWS))
    made = benchmark(prompts=prompts, reference="file", orders="both")
    ask = ScriptedAsk(probable(0.8))
    answers, verdicts = judged(made, ask)
    assert len(ask.requests) == 2 * len(ROWS)
    assert [v.value for v in verdicts] == pytest.approx([1.5] * len(ROWS))
    assert sorted(verdicts[0].detail["preferences"]) == pytest.approx([1.2, 1.8])
    one_order = benchmark(prompts=prompts, reference="file")
    assert {round(v.value, 3) for v in judged(one_order, ScriptedAsk(probable(0.8)))[1] if v.value} == {1.2, 1.8}
    assert made.identity()["orders"] == "both"
    assert "orders" not in one_order.identity()
    assert made.metrics(answers, [], verdicts)["alpaca_eval.win_rate"].value == pytest.approx(50)


def test_a_pair_that_lacks_one_of_its_orders_is_not_scored(tmp_path: Path) -> None:
    def reply(request: JudgeRequest) -> JudgeReply:
        text = last_text(request)
        lost = text.index("Mine") < text.index("Reference")
        return JudgeReply(text="", error="down") if lost else probable(0.8)

    made = benchmark(prompts=str(prompts_file(tmp_path, ROWS)), reference="file", orders="both")
    _, verdicts = judged(made, ScriptedAsk(reply))
    assert {(v.value, v.invalid) for v in verdicts} == {(None, "down")}
    assert verdicts[0].detail["preferences"].count(None) == 1


def test_samples_are_replies_of_their_own(tmp_path: Path) -> None:
    calls: list[str] = []

    def answer(body: dict[str, Any]) -> Any:
        calls.append(body["messages"][-1]["content"])
        sure = -0.1 * (1 + calls.count(calls[-1]))
        return completion("m", {"m": sure, "M": math.log(1 - math.exp(sure))})

    made = benchmark(prompts=str(prompts_file(tmp_path, ROWS)), reference="file", samples=3)
    with FakeServer(answer).running() as server:
        judge = Openai(name="openai", model="m", base_url=server.url)
        ask = make_ask(judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda n: None)
        _, verdicts = judged(made, ask)
        again = judged(made, make_ask(judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda n: None))[1]
    assert len(server.requests) == 3 * len(ROWS)  # and none of them again
    assert again == verdicts
    first = verdicts[0].detail["preferences"]
    assert len(set(first)) == 3
    assert verdicts[0].value == pytest.approx(sum(first) / 3)


def saying(*texts: str) -> ScriptedAsk:
    """Says one after the other, again and again."""
    again = cycle(texts)
    return ScriptedAsk(lambda request: JudgeReply(text=next(again)))


def test_a_judge_without_log_probabilities_is_taken_at_its_word_and_counted(tmp_path: Path) -> None:
    prompts = str(prompts_file(tmp_path, ROWS))
    made = benchmark(prompts=prompts, reference="file")
    answers, verdicts = judged(made, saying("m", " M\n"))
    assert {v.value for v in verdicts} <= {1.0, 2.0}
    assert all(v.detail["from_text"] and v.detail["logprobs"] is None for v in verdicts)
    assert made.metrics(answers, [], verdicts)["alpaca_eval.from_text"].value == len(ROWS)
    _, odd = judged(made, saying("Model m, I think."))
    assert {v.value for v in odd} == {None}
    refusing = benchmark(prompts=prompts, reference="file", without_logprobs="refuse")
    answers, refused = judged(refusing, saying("m"))
    assert {v.invalid for v in refused} == {"the reply has no log-probabilities, which the annotator reads"}
    assert "alpaca_eval.from_text" not in refusing.metrics(answers, [], refused)
    assert refusing.identity() != made.identity()


def own_evaluator(folder: Path) -> Path:
    source = package_folder() / "evaluators_configs"
    (folder / "mine").mkdir()
    config = (source / WEIGHTED / "configs.yaml").read_text()
    template = next(line.split('"')[1] for line in config.splitlines() if "prompt_template" in line)
    (folder / "mine" / "configs.yaml").write_text(config.replace(template, "mine/prompt.txt"))
    text = (source / template).read_text()
    (folder / "mine" / "prompt.txt").write_text(text.replace("You are a highly efficient assistant", "You are terse"))
    return folder / "mine"


def test_an_evaluator_of_ones_own(tmp_path: Path) -> None:
    folder = own_evaluator(tmp_path)
    prompts = str(prompts_file(tmp_path, ROWS))
    made = benchmark(prompts=prompts, reference="file", annotator=str(folder))
    made.check()
    ask = ScriptedAsk(probable(0.8))
    _, verdicts = judged(made, ask)
    assert ask.requests[0].messages[0].content.startswith("You are terse")
    assert {round(v.value, 3) for v in verdicts if v.value} == {1.2, 1.8}
    identity = made.identity()
    assert identity["annotator"] == "mine"
    assert str(tmp_path) not in json.dumps(identity)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere / "mine")
    assert benchmark(prompts=prompts, reference="file", annotator=str(elsewhere / "mine")).identity() == identity
    assert benchmark(prompts=prompts, reference="file").identity() != identity


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "has no configs.yaml; expected an evaluator's folder"),
        ("[", "can't be read"),
        ("- a", "expected a mapping of names to evaluators"),
        ("a: {prompt_template: none.txt}", "no prompt_template"),
    ],
)
def test_an_evaluator_that_can_not_be_used_is_told(tmp_path: Path, config: str | None, said: str) -> None:
    (tmp_path / "mine").mkdir()
    if config is not None:
        (tmp_path / "mine" / "configs.yaml").write_text(config)
    made = benchmark(prompts=str(prompts_file(tmp_path, ROWS)), reference="file", annotator=str(tmp_path / "mine"))
    with pytest.raises(RecipeError, match=said) as raised:
        made.check()
    assert len(str(raised.value).splitlines()) == 1


def test_the_first_alpaca_evals_reference(shared_data: Path, tmp_path: Path) -> None:
    official = shared_data / "alpaca_eval" / "alpaca_eval_gpt4_baseline.json.gz"
    shutil.copy(official, tmp_path)
    made = benchmark(data_dir=str(tmp_path), reference="text_davinci_003", limit=6)
    with pytest.raises(DataError, match=r"has no alpaca_eval\.json"):
        made.identity()
    questions = made.load_questions()
    rows = [
        {"instruction": q.turns[0], "output": f"Davinci {i}.", "generator": "text_davinci_003"}
        for i, q in enumerate(questions[:-1])
    ]
    (tmp_path / "alpaca_eval.json").write_text(json.dumps(rows))
    identity = made.identity()
    assert identity["reference"]["name"] == "text_davinci_003"
    assert identity["lc_glm"] == "length_controlled_minimal"
    assert made.needs_row is None
    answers, verdicts = judged(made, ScriptedAsk(probable(0.8)))
    assert "Davinci 0." in verdicts[0].prompt
    assert verdicts[-1].invalid == "no reference output"
    assert made.metrics(answers, [], verdicts)["alpaca_eval.win_rate"].n_invalid == 1
