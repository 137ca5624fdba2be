"""The stage that measures the divergence of a trained policy from its reference, along the policy's own answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from harness.augmentation.answers.conversations import prompt_ids, sampling_of
from harness.augmentation.answers.turns import Answered, Turn, answered
from harness.benchmark import Benchmark
from harness.engine.stage import Context, Estimate, Stage
from harness.engine.store import write_json
from harness.figures import KL, KL_PER_TOKEN
from harness.models.config import context_window
from harness.models.demand.loads import loading
from harness.models.demand.parts import QUESTION
from harness.models.load import Dtype
from harness.models.templates.control_tokens import encode_text
from harness.recipe.evaluation import AnswerSampling
from harness.recipe.policy import policy_identity, policy_tokenizer
from harness.recipe.training import Runtime
from harness.stages._metrics import by_prompt, write_metrics
from harness.stages.answers import written
from harness.stats.intervals import mean_metric
from harness.training.checkpoint import RowModel
from harness.types import Answer

DTYPE: Dtype = "float32"
"""In which both models compute."""


def kl_stage(
    row: str,
    model: RowModel,
    config: AnswerSampling,
    benchmarks: Sequence[Benchmark],
    answers: Mapping[str, Stage],
    runtime: Runtime,
) -> Stage | None:
    """KL(policy || reference) in nats at the tokens of a row's answers, the end of a turn among them: `outcomes.json`,
    by `BENCHMARK:QUESTION` the sum over an answer's tokens and the mean over them, and `metrics.json`. None for a
    policy that was not trained, or without answers.

    The policy is the one that answers; its reference is the policy before all training, or the fine-tuned one that
    it starts from, as for held-out figures. Both compute in float32, whatever dtype answers: in bfloat16 rounding
    alone made 0.14 of 0.15 nats on an answer of 73 tokens (SmolLM2-135M, weights moved by 0.2 %). Where answers are
    sampled at temperature 1, with all of the vocabulary, the figure is an unbiased estimate of the divergence of
    whole answers (`is_estimate`); otherwise it is the divergence along the answers as they were written. Answers are
    tokenised again: those that have another number of tokens than was sampled are counted (`retokenised`). Not
    scored: an answer that lost its thought, which is why it was written so, one without tokens, and one where the
    sum isn't finite."""
    measured = [benchmark for benchmark in benchmarks if benchmark.name in answers]
    if model.trained is None or not measured:
        return None
    measurement = _Measurement(row, model, config, tuple(measured), runtime)
    bits = {"bits": model.bits} if model.bits else {}
    params = {"policy": policy_identity(model.policy), **bits, **model.identity}
    inputs = {f"answers/{b.name}": answers[b.name] for b in measured} | model.inputs
    return Stage(f"kl/{row}", "kl", 1, params, inputs, measurement.run, measurement.estimate)


class _Row(NamedTuple):
    """The tokens of one turn; no `response` where it isn't measured."""

    prompt: list[int]
    response: list[int]


class _Place(NamedTuple):
    """An answer among the rows: its prompt, `BENCHMARK:QUESTION`, and the rows of its turns."""

    key: str
    rows: range


@dataclass(frozen=True)
class _Measurement:
    """What the stage does; the fields are the arguments of `kl_stage`."""

    row: str
    model: RowModel
    config: AnswerSampling
    benchmarks: tuple[Benchmark, ...]
    runtime: Runtime

    def estimate(self) -> Estimate:
        """Both models read all answers. Without adapters both are in memory."""
        policy, models = self.model.policy, 1 if self.model.adapter else 2
        sizes = [written(benchmark, self.config) for benchmark in self.benchmarks]
        tokens = 2 * sum(turns * QUESTION + answers for turns, answers in sizes)
        longest = QUESTION + self.config.most_tokens
        load = self.runtime.scoring(policy.model, tokens, longest, DTYPE)
        load = replace(load, processes=1, sharded=False, models=models)
        return Estimate(scored_tokens=tokens, loads=(load,), waiting=loading([policy.model] * models))

    def run(self, ctx: Context) -> dict[str, Any]:
        """Measure, write the files, and report."""
        rows, places, report = self._tokens(ctx)
        sums = self._divergences(ctx, rows)
        per_token = [None if kl is None else kl / len(row.response) for kl, row in zip(sums, rows, strict=True)]
        outcomes = {
            figure.benchmark: by_prompt((place.key, [values[i] for i in place.rows]) for place in places)
            for figure, values in ((KL, sums), (KL_PER_TOKEN, per_token))
        }
        write_json(ctx.folder / "outcomes.json", outcomes)
        metrics = {f.metric: mean_metric(list(outcomes[f.benchmark].values())) for f in (KL, KL_PER_TOKEN)}
        write_metrics(ctx, metrics)
        tokens = sum(len(row.response) for row in rows)
        return {"answers": len(places), "tokens": tokens, **report}

    def _tokens(self, ctx: Context) -> tuple[list[_Row], list[_Place], dict[str, Any]]:
        """(the rows of all turns, the answers, what the report says of how they were written)."""
        tokenizer = policy_tokenizer(self.model.policy)
        rows: list[_Row] = []
        places: list[_Place] = []
        retokenised, is_estimate = 0, True
        for benchmark in self.benchmarks:
            artifact = ctx.inputs[f"answers/{benchmark.name}"]
            lost_thoughts = bool((artifact.report.get("thoughts") or {}).get("removed"))
            for one in answered(benchmark.load_questions(), artifact.rows("answers.jsonl", Answer)):
                own = [_row(tokenizer, one, turn) for turn in one.turns]
                sampling = sampling_of(self.config, one.question)
                is_estimate &= sampling.temperature == sampling.top_p == 1
                if one.tokens is not None and sum(len(row.response) for row in own) != one.tokens:
                    retokenised += 1
                    own = [row._replace(response=[]) for row in own] if lost_thoughts else own
                places.append(_Place(f"{benchmark.name}:{one.prompt}", range(len(rows), len(rows) + len(own))))
                rows += own
        return rows, places, {"retokenised": retokenised, "is_estimate": is_estimate and bool(places)}

    def _divergences(self, ctx: Context, rows: Sequence[_Row]) -> list[float | None]:
        from harness.logprobs.divergence import TokenPair, response_divergences

        weights = self.model.weights(ctx, DTYPE)
        policy = weights.load()
        reference = None if weights.adapter else self.model.reference_weights(ctx, DTYPE).load()
        window = context_window(policy)
        measured = [i for i, row in enumerate(rows) if row.prompt and row.response and _fits(row, window)]
        ctx.progress.start(f"divergence of {self.row}", len(rows))
        ctx.progress.advance(len(rows) - len(measured))
        found = response_divergences(
            policy,
            reference,
            [TokenPair(rows[i].prompt, rows[i].response) for i in measured],
            pad_id=int(policy_tokenizer(self.model.policy).pad_token_id),
            batch_size=self.runtime.score_batch_size,
            advance=ctx.progress.advance,
        )
        sums: list[float | None] = [None] * len(rows)
        for i, kl in zip(measured, found, strict=True):
            sums[i] = kl if math.isfinite(kl) else None
        return sums


def _row(tokenizer: Any, one: Answered, turn: Turn) -> _Row:
    """The tokens of a turn. Which token ended it makes no difference: the divergence there depends on those before. A
    text that may have ended at a stop text has none."""
    ends = [int(tokenizer.pad_token_id)] if turn.is_whole and not one.question.stop else []
    return _Row(prompt_ids(tokenizer, one.question, turn.messages), encode_text(tokenizer, turn.text) + ends)


def _fits(row: _Row, window: int | None) -> bool:
    """Whether it fits in the model's window: tokenised again, an answer may have become too long."""
    return window is None or len(row.prompt) + len(row.response) - 1 <= window
