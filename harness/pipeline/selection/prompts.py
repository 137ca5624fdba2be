"""The prompts that candidates are chosen on, and figures of the others."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from harness.benchmark import Benchmark
from harness.engine.execute import ExecutionResult
from harness.engine.stage import Stage
from harness.recipe.recipe import Recipe
from harness.stages._metrics import categories
from harness.stats.paired import prompt_of
from harness.types import Answer, Metric, Verdict


def chosen_on(prompts: Iterable[str], share: float, seed: int) -> frozenset[str]:
    """The ids of the prompts to choose on: a random share of them, the same for all rows; at least one, and one fewer
    than there are."""
    ordered = sorted(set(prompts), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    return frozenset(ordered[: max(1, min(round(share * len(ordered)), len(ordered) - 1))])


def reported_on(recipe: Recipe, benchmark: Benchmark, prompts: Sequence[str]) -> list[str]:
    """Those of a benchmark's prompts, in their order, that nothing is chosen on."""
    select = recipe.evaluation.select if recipe.evaluation else None
    if select is None or select.metric.split(".")[0] != benchmark.name or len(prompts) < 2:
        return list(prompts)
    left_out = chosen_on(prompts, select.prompts, recipe.seed)
    return [prompt for prompt in prompts if prompt not in left_out]


def kept_scores(
    scores: Mapping[str, float | None], benchmark: str, left_out: frozenset[str]
) -> dict[str, float | None]:
    """The scores of a row's answers, without those to some prompts of one benchmark. `scores`: by
    `BENCHMARK:QUESTION`."""
    keys = {key: key.partition(":") for key in scores}
    return {
        key: scores[key]
        for key, (name, _, question) in keys.items()
        if name != benchmark or prompt_of(question) not in left_out
    }


class Rest(NamedTuple):
    """A row's figures of the prompts that nothing was chosen on, as its entry has them."""

    metrics: dict[str, Metric]
    outcomes: dict[str, float | None]
    resamples: dict[str, list[float]]
    strata: dict[str, str]


def rest_of(benchmark: Benchmark, verdicts: Stage, executed: ExecutionResult, left_out: frozenset[str]) -> Rest:
    """A row's figures on a benchmark without some prompts. `verdicts`: the row's stage."""
    artifact = executed.artifacts[verdicts.key]
    kept = [v for v in artifact.rows("verdicts.jsonl", Verdict) if prompt_of(v.key) not in left_out]
    answers = _answers(verdicts.inputs, "answers", executed, left_out)
    reference = _answers(verdicts.inputs, "reference", executed, left_out)
    found = benchmark.metrics(answers, reference, kept)
    outcomes = {verdict.key: verdict.value for verdict in kept}
    strata = {name: kind for name, kind in categories(artifact).items() if name not in left_out}
    resamples = {name: [round(x, 4) for x in metric.resamples] for name, metric in found.items() if metric.resamples}
    plain = {name: Metric.model_validate(metric.model_dump(mode="json")) for name, metric in found.items()}
    return Rest(plain, outcomes, resamples, strata)


def _answers(
    inputs: Mapping[str, Stage], role: str, executed: ExecutionResult, left_out: frozenset[str]
) -> list[Answer]:
    if role not in inputs:
        return []
    rows = executed.artifacts[inputs[role].key].rows("answers.jsonl", Answer)
    return [answer for answer in rows if prompt_of(answer.question_id) not in left_out]
