"""AlpacaEval against the `alpaca_eval` package itself, and against its recorded verdicts and published rows."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.benchmarks.alpaca_eval import length_control
from harness.judges.openai import Openai
from harness.judging.asker import make_ask
from harness.types import Verdict
from tests.benchmarks.alpaca_eval.helpers import (
    answer,
    benchmark,
    official,
    official_row,
    prompts_file,
    question_id,
    recorded,
)
from tests.fake_server import FakeServer, completion


def weighted(body: dict[str, Any]) -> Any:
    share = hashlib.sha256(body["messages"][-1]["content"].encode()).digest()[0] / 256
    return completion("m" if share < 0.5 else "M", {"m": -3 * share - 0.01, "M": -3 * (1 - share) - 0.01, "x": -9.0})


def ranked(body: dict[str, Any]) -> Any:
    first = 1 + hashlib.sha256(body["messages"][-1]["content"].encode()).digest()[0] % 2
    return completion(f"[{{'model': 'model_1', 'rank': {first}}}, {{'model': 'model_2', 'rank': {3 - first}}}]")


@pytest.mark.parametrize(
    ("annotator", "answers"), [("weighted_alpaca_eval_gpt4_turbo", weighted), ("alpaca_eval_gpt4", ranked)]
)
def test_sends_and_reads_what_the_package_itself_does(
    annotator: str,
    answers: Callable[[dict[str, Any]], Any],
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = recorded(shared_data, "gemma-2b-it", "annotations")[::16][:50]
    references = [{"instruction": r["instruction"], "output": r["output_1"], "generator": "gpt4"} for r in rows]
    outputs = [{"instruction": r["instruction"], "output": r["output_2"], "generator": "gemma"} for r in rows]

    with FakeServer(answers).running() as theirs:
        import alpaca_eval
        import openai

        client = openai.OpenAI(api_key="x", base_url=theirs.url)
        monkeypatch.setattr(alpaca_eval.utils, "get_all_clients", lambda *args, **kwargs: [client])
        _, annotations = alpaca_eval.evaluate(
            model_outputs=outputs,
            reference_outputs=references,
            annotators_config=annotator,
            output_path=None,
            precomputed_leaderboard=None,
            is_return_instead_of_print=True,
            fn_metric="get_winrate",
            sort_by="win_rate",
            caching_path=None,
        )
    with FakeServer(answers).running() as ours:
        made = benchmark(prompts=str(prompts_file(tmp_path, references)), reference="file", annotator=annotator)
        judge = Openai(name="openai", model="gpt", base_url=ours.url)
        ask = make_ask(judge, tmp_path / "j.jsonl", concurrency=4, advance=lambda n: None)
        verdicts = made.verdicts([answer(o["instruction"], o["output"]) for o in outputs], [], ask)

    def sent(server: FakeServer) -> list[dict[str, Any]]:
        """Whole bodies, in a common order of prompts: calls are made at once. The model is the judge's own."""
        bodies = [{k: v for k, v in body.items() if k != "model"} for body in server.requests]
        return sorted(bodies, key=lambda body: str(body["messages"]))

    assert sent(ours) == sent(theirs)
    assert len(ours.requests) == 50
    preferences = {question_id(a["instruction"]): a["preference"] for a in annotations}
    assert {v.question_id: v.value for v in verdicts} == preferences
    assert len(set(preferences.values())) > 1
    assert {v.detail["switched"] for v in verdicts} == {True, False}


WITH_THE_STAND_IN = {
    "alpaca-7b": 6.182,
    "vicuna-7b-v1.5": 8.030,
    "gemma-2b-it": 5.718,
    "gpt-3.5-turbo-1106": 20.609,
    "FuseChat-Llama-3.2-3B-Instruct": 53.707,
    "FuseChat-Gemma-2-9B-Instruct": 69.980,
}
"""Length-controlled win rates by the package, with the stand-in for df_gamed.csv (the data's own README)."""


@pytest.mark.parametrize("model", WITH_THE_STAND_IN)
def test_recorded_verdicts_give_the_published_row(
    model: str, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(length_control, "RESAMPLES", 100)  # a thousand take five seconds
    made = official(shared_data, df_gamed=str(shared_data / "alpaca_eval" / "df_gamed_reconstructed.csv"))
    assert "not the official file" in made.identity()["lc_unofficial"]
    folder = shared_data / "alpaca_eval" / "recorded" / model
    answers, odd = made.recorded_answers(folder / "model_outputs.json.gz")
    assert not any(odd.values())
    verdicts, odd, annotator = made.recorded_verdicts(folder / "annotations.json.gz", answers)
    assert not any(odd.values())
    assert annotator == "weighted_alpaca_eval_gpt4_turbo"
    metrics = made.metrics(answers, [], verdicts)
    controlled = metrics["alpaca_eval.lc_win_rate"]
    assert controlled.value == pytest.approx(WITH_THE_STAND_IN[model], abs=0.001)
    # The stand-in's spread; the official file's is in the published row.
    spread = metrics["alpaca_eval.lc_standard_error"].value
    assert spread is not None
    assert spread == pytest.approx(float(official_row(model)["lc_standard_error"] or spread), abs=0.35)
    assert 0 < spread != controlled.stderr
    assert controlled.ci95 is not None
    assert controlled.ci95[0] < controlled.value < controlled.ci95[1]
    row = official_row(model)
    rate = metrics["alpaca_eval.win_rate"]
    assert rate.value == pytest.approx(float(row["win_rate"]), abs=1e-12)
    assert rate.stderr == pytest.approx(float(row["standard_error"]), abs=1e-12)
    assert metrics["alpaca_eval.discrete_win_rate"].value == pytest.approx(float(row["discrete_win_rate"]))
    counts = {"wins": "n_wins", "losses": "n_wins_base", "draws": "n_draws", "avg_length": "avg_length"}
    assert {k: metrics[f"alpaca_eval.{k}"].value for k in counts} == {k: float(row[v]) for k, v in counts.items()}
    assert (rate.n, rate.n_invalid) == (int(row["n_total"]), 0)
    assert rate.ci95 is not None
    assert rate.ci95[0] < rate.value < rate.ci95[1]


@pytest.mark.slow
def test_length_controlled_rate_is_the_packages_minimal_one(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn
    from alpaca_eval.metrics import glm_winrate

    # The package reads this file whatever the formula; the minimal one uses nothing of it.
    unused = str(shared_data / "alpaca_eval" / "df_gamed_reconstructed.csv")
    monkeypatch.setattr(glm_winrate, "hf_hub_download", lambda **kwargs: unused)
    for model in ("gpt-3.5-turbo-1106", "FuseChat-Gemma-2-9B-Instruct"):
        rows = recorded(shared_data, model, "annotations")[:200]
        with sklearn.config_context():  # which the package changes for good
            theirs = glm_winrate.get_length_controlled_winrate(
                rows, glm_name="length_controlled_minimal", save_weights_dir=None
            )["length_controlled_winrate"]
        made = official(shared_data, length_control="minimal")
        metric = made.metrics(
            [answer(r["instruction"], r["output_2"]) for r in rows],
            [],
            [Verdict(question_id=question_id(r["instruction"]), value=r["preference"]) for r in rows],
        )["alpaca_eval.lc_win_rate"]
        assert metric.value == pytest.approx(theirs, abs=1e-9)
        assert metric.ci95 is not None
        assert metric.stderr is not None
        assert metric.ci95[0] < theirs < metric.ci95[1]
        assert (metric.ci95[1] - metric.ci95[0]) / (2 * 1.96) == pytest.approx(metric.stderr, rel=0.15)
