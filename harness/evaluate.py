"""The evaluation stages of one row (the untrained base, or a trained policy): held-out pairs, answers, verdicts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from harness import chat, models, stats
from harness.components import identity, question_identity
from harness.judge_costs import journal_name, journal_of, plan_judging
from harness.judging import Asker, make_ask
from harness.memo import once
from harness.models import Dtype
from harness.panels import judged, members_of
from harness.protocols import Benchmark
from harness.recipe import Evaluation, Policy, Recipe, Training
from harness.responses import expected_seed_prompts, pair_tokens
from harness.spending import JudgeCost, price_of, price_table
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import Artifact, Store, write_json, write_rows
from harness.train import CHECKPOINT, policy_identity, responses_a_prompt, scoring_bits, scoring_dtype, starting_policy
from harness.types import (
    Answer,
    FinishReason,
    Message,
    Metric,
    Question,
    RankedExample,
    Sampling,
    Verdict,
)
from harness.workload import GENERATING, REPLY_SECONDS, loading, models_in, work

BASE = "base"
JUDGE_PROMPT = 400
"""Tokens of a judge's prompt beside the answers in it, about."""


def _load(start: Policy, checkpoint: Artifact | None, dtype: Dtype, bits: Literal[4, 8] | None) -> Any:
    """The row's model: the policy that training starts from, the checkpoint in a training artifact, or the policy with
    the artifact's adapter (the policy as the recipe names it, revision included, rather than as the adapter remembers
    it); quantised to `bits` where adapters were, or are to be, trained on it so."""
    folder = None if checkpoint is None else checkpoint.folder / CHECKPOINT
    if folder is not None and not (folder / "adapter_config.json").exists():
        return models.load_causal_lm(str(folder), None, dtype, bits)
    policy = models.load_causal_lm(start.model, start.revision, dtype, bits)
    if folder is None:
        return policy
    from peft import PeftModel

    return PeftModel.from_pretrained(policy, folder).eval()


def heldout_stage(
    recipe: Recipe,
    row: str,
    training: Training,
    ranked: Stage,
    reference: Stage,
    policy: Stage | None,
    sft: Stage | None = None,
) -> Stage:
    """How the policy's implicit rewards order what it was not trained on: `margins.json`, `metrics.json`.

    Implicit reward: log pi(y|x) - log pi_ref(y|x), in nats, without beta. The untrained base has zero everywhere by
    definition, so nothing is computed for it: its margin is 0, every pair is a tie, and it has no rank correlation.
    A row that starts from a fine-tuned policy (`sft`) is held to that one, which is then what `reference` is of. On the
    seed's own pairs no row has a tau: over two responses it is 1 where the pair is right and -1 where not.
    """
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    dtype, bits = scoring_dtype(recipe, training), scoring_bits(training)

    def body(ctx: Context) -> dict[str, Any]:
        examples = ctx.inputs["ranked"].rows("heldout.jsonl", RankedExample)
        rewards = {e.id: [0.0] * len(e.responses) for e in examples}
        if policy is not None:
            start = starting_policy(recipe, ctx.inputs.get("sft"))
            model = _load(start, ctx.inputs["policy"], dtype, bits)
            rewards = _implicit_rewards(ctx, recipe, examples, training, model)
        margins = {e.id: _seed_margin(e, rewards[e.id]) for e in examples}
        # A constant has no rank order: for the base there is nothing to score, which is not "failed to score".
        taus = [_tau(e, rewards[e.id]) for e in examples] if policy is not None else []
        metrics = {
            "heldout.pair_accuracy": stats.accuracy_metric(
                [None if m is None else (m > 0) + 0.5 * (m == 0) for m in margins.values()]
            ),
            "heldout.margin": stats.mean_metric(list(margins.values())),
        }
        if recipe.data.responses:
            metrics["heldout.kendall_tau"] = stats.mean_metric(taus)
        write_json(ctx.folder / "margins.json", margins)
        write_metrics(ctx, metrics)
        return {"pairs": len(margins)}

    def estimate() -> Estimate:
        if policy is None:
            return Estimate()
        heldout, n = expected_seed_prompts(recipe)[1], responses_a_prompt(recipe)
        tokens, loaded = heldout * n * pair_tokens(recipe), [recipe.policy.model]
        return Estimate(scored_tokens=tokens, work=work(loaded, tokens), waiting=loading(loaded))

    params = {"policy": policy_identity(recipe), "dtype": dtype, **lengths}
    inputs = {"ranked": ranked, "reference": reference} | ({"policy": policy} if policy else {})
    inputs |= {"sft": sft} if sft else {}
    return Stage(f"heldout/{row}", "heldout", 2, params, inputs, body, estimate)


def _implicit_rewards(
    ctx: Context, recipe: Recipe, examples: Sequence[RankedExample], training: Training, model: Any
) -> dict[str, list[float]]:
    from harness.training.logps import score_rows
    from harness.training.policy import autocast_dtype

    rows = [(e.messages, r.text) for e in examples for r in e.responses]
    reference = ctx.inputs["reference"].json("reference.json")
    tokenizer = models.load_tokenizer(recipe.policy.model, recipe.policy.revision)
    ctx.progress.start("held-out log-probabilities", len(rows))
    scored = score_rows(
        model,
        tokenizer,
        rows,
        max_prompt_length=training.max_prompt_length,
        max_length=training.max_length,
        batch_size=recipe.runtime.score_batch_size,
        advance=ctx.progress.advance,
        autocast=autocast_dtype(recipe.policy, training.lora),
    )
    found = iter(scored)
    return {e.id: [next(found).logp - ref for ref in reference[e.id]] for e in examples}


def _seed_margin(example: RankedExample, rewards: Sequence[float]) -> float | None:
    """Implicit reward of the seed's chosen response less that of its rejected one."""
    by_source = {r.source: reward for r, reward in zip(example.responses, rewards, strict=True)}
    if "seed:chosen" not in by_source or "seed:rejected" not in by_source:
        return None
    return by_source["seed:chosen"] - by_source["seed:rejected"]


def _tau(example: RankedExample, rewards: Sequence[float]) -> float | None:
    """Rank correlation of the implicit rewards with the reward model's scores over one prompt's responses."""
    scored = [(r.score, reward) for r, reward in zip(example.responses, rewards, strict=True) if r.score is not None]
    return stats.kendall_tau([s for s, _ in scored], [reward for _, reward in scored])


def write_metrics(ctx: Context, metrics: Mapping[str, Metric]) -> None:
    """A stage's figures by name: `metrics.json`, and `resamples.json` of those that have them."""
    kept = {name: [round(x, 4) for x in m.resamples] for name, m in metrics.items() if m.resamples}
    write_json(ctx.folder / "resamples.json", kept)
    write_json(ctx.folder / "metrics.json", {name: m.model_dump(mode="json") for name, m in metrics.items()})


def answers_stage(
    recipe: Recipe,
    row: str,
    evaluation: Evaluation,
    benchmark: Benchmark,
    policy: Stage | None,
    bits: Literal[4, 8] | None = None,
    sft: Stage | None = None,
) -> Stage:
    """A row's answers to a benchmark: `answers.jsonl`. Turn by turn, each with what was said before in context. `bits`:
    of the base that the row's adapter was trained on."""
    name = identity(benchmark)["name"]
    config = evaluation.answers
    seed = derived_seed(recipe.seed, "answers")

    def body(ctx: Context) -> dict[str, Any]:
        from harness.decoding import Job, decode_all

        questions = benchmark.questions()
        tokenizer = models.load_tokenizer(recipe.policy.model, recipe.policy.revision)
        start = starting_policy(recipe, ctx.inputs.get("sft"))
        model = _load(start, ctx.inputs.get("policy"), recipe.policy.dtype, bits)
        said: dict[str, list[Message]] = {q.id: [] for q in questions}
        turns: dict[str, list[tuple[str, FinishReason, int]]] = {q.id: [] for q in questions}
        for turn in range(max(len(q.turns) for q in questions)):
            asked = [q for q in questions if turn < len(q.turns)]
            for q in asked:
                said[q.id].append(Message(role="user", content=q.turns[turn]))
            ctx.progress.start(f"{row} answers {name}, turn {turn + 1}", len(asked))
            jobs = [
                Job(chat.encode_prompt(tokenizer, said[q.id]), _sampling(evaluation, q), (q.sample,)) for q in asked
            ]
            done = decode_all(model, tokenizer, jobs, seed=seed, batch_size=None, advance=ctx.progress.advance)
            for q, (completion,) in zip(asked, done, strict=True):
                said[q.id].append(Message(role="assistant", content=completion.text))
                turns[q.id].append((completion.text, completion.finish_reason, completion.tokens))
        answers = [_answer(q, turns[q.id]) for q in questions]
        write_rows(ctx.folder / "answers.jsonl", answers)
        cut = sum(reason == "length" for a in answers for reason in a.finish_reasons)
        return {"questions": len(answers), "tokens": sum(a.tokens or 0 for a in answers), "cut_at_token_limit": cut}

    params = {
        "policy": policy_identity(recipe),
        "questions": question_identity(benchmark),
        "sampling": config.model_dump(mode="json"),
        "seed": seed,
        **({"bits": bits} if bits else {}),
    }

    def estimate() -> Estimate:
        tokens, loaded = _turns(benchmark) * config.max_new_tokens, [recipe.policy.model]
        computed = work(loaded, tokens, GENERATING)
        return Estimate(generated_tokens=tokens, work=computed, waiting=loading(loaded))

    inputs = ({"policy": policy} if policy else {}) | ({"sft": sft} if sft else {})
    return Stage(f"answers/{name}/{row}", "answers", 2, params, inputs, body, estimate)


def _turns(benchmark: Benchmark) -> int:
    return once(("turns", id(benchmark)), lambda: (benchmark, sum(len(q.turns) for q in benchmark.questions())))[1]


def _sampling(evaluation: Evaluation, question: Question) -> Sampling:
    config = evaluation.answers
    temperature = question.temperature if config.temperature is None else config.temperature
    return Sampling(temperature=temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens)


def _answer(question: Question, turns: Sequence[tuple[str, FinishReason, int]]) -> Answer:
    return Answer(
        question_id=question.id,
        turns=tuple(text for text, _, _ in turns),
        finish_reasons=tuple(reason for _, reason, _ in turns),
        tokens=sum(tokens for _, _, tokens in turns),
    )


def verdicts_stage(
    recipe: Recipe, row: str, evaluation: Evaluation, benchmark: Benchmark, answers: Stage, reference: Stage | None
) -> Stage:
    """The judge's verdicts on a row's answers, journalled as they come: `verdicts.jsonl`, `metrics.json`."""
    name = identity(benchmark)["name"]
    judge = evaluation.judge_of(benchmark)

    def body(ctx: Context) -> dict[str, Any]:
        given = ctx.inputs["answers"].rows("answers.jsonl", Answer)
        against = ctx.inputs["reference"].rows("answers.jsonl", Answer) if "reference" in ctx.inputs else []
        turns = sum(len(q.turns) for q in benchmark.questions())
        ctx.progress.start(f"judging {row} on {name}", turns * len(members_of(judge)))

        def asker(member: Any) -> Asker:
            return make_ask(
                member,
                journal_of(member, ctx.store),
                concurrency=recipe.runtime.judge_concurrency,
                advance=ctx.progress.advance,
                retries_invalid=evaluation.retries_invalid,
                price=price_of(member, price_table(evaluation.prices)),
                spending=ctx.spending,
            )

        verdicts, ledger, panel = judged(
            judge, asker, lambda ask: benchmark.verdicts(given, against, ask), f"{row} on {name}"
        )
        write_rows(ctx.folder / "verdicts.jsonl", verdicts)
        write_metrics(ctx, benchmark.metrics(given, against, verdicts))
        return {"invalid": sum(v.value is None for v in verdicts), **ledger.model_dump(mode="json"), **panel}

    params: dict[str, Any] = {"judge": identity(judge), "benchmark": identity(benchmark)}
    if any(getattr(member, "resamples", False) for member in members_of(judge)):
        params["retries_invalid"] = evaluation.retries_invalid
    inputs = {"answers": answers} | ({"reference": reference} if reference else {})

    def estimate() -> Estimate:
        members = members_of(judge)
        calls = _turns(benchmark) * len(members)
        served = [member for member in members if hasattr(member, "base_url")]
        waiting = calls / len(members) * len(served) * REPLY_SECONDS / recipe.runtime.judge_concurrency
        loaded = [model for member in members for model in models_in(member)]
        tokens = calls // len(members) * (JUDGE_PROMPT + 2 * evaluation.answers.max_new_tokens)
        return Estimate(judge_calls=calls, work=work(loaded, tokens), waiting=waiting + loading(loaded))

    def judging(store: Store) -> JudgeCost | None:
        return plan_judging(evaluation, benchmark, store, answers, reference)

    journals = frozenset(f"{journal_name(member)}/{name}" for member in members_of(judge))
    stage_id = f"verdicts/{name}/{row}"
    return Stage(stage_id, "verdicts", 4, params, inputs, body, estimate, judging, exclusive=journals)


def outcomes(artifact: Artifact, kind: str) -> dict[str, float | None]:
    """A row's outcomes one by one, as an entry file keeps them: verdict values by question (`id/turn` where it has
    turns), or held-out margins by pair."""
    if kind == "heldout":
        return dict(artifact.json("margins.json"))
    verdicts = artifact.rows("verdicts.jsonl", Verdict)
    return {v.question_id if v.turn is None else f"{v.question_id}/{v.turn}": v.value for v in verdicts}


def resamples(artifact: Artifact) -> dict[str, list[float]]:
    """The resamples of a stage's figures, by name."""
    return dict(artifact.json("resamples.json"))


def metrics(artifact: Artifact) -> dict[str, Metric]:
    """A stage's figures by name."""
    found = {name: Metric.model_validate(m) for name, m in artifact.json("metrics.json").items()}
    for name, metric in found.items():
        if metric.value is not None and not math.isfinite(metric.value):
            raise ValueError(f"{name} is not finite")
    return found
