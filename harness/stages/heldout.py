"""The stage that measures how a policy orders the held-out pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.engine.stage import Context, Estimate, Stage
from harness.engine.store import write_json
from harness.models import chat
from harness.models import load as models
from harness.models.workload import loading, work
from harness.recipe.recipe import Policy, policy_identity
from harness.recipe.sizes import Sizes
from harness.recipe.training import Training
from harness.stages._metrics import write_metrics
from harness.stats.agreement import kendall_tau
from harness.stats.intervals import accuracy_metric, mean_metric
from harness.training.checkpoint import RowModel, scoring_dtype
from harness.types import RankedExample


def heldout_stage(
    row: str, model: RowModel, training: Training, ranked: Stage, reference: Stage, sizes: Sizes, batch_size: int
) -> Stage:
    """How the policy's implicit rewards order responses that it was not trained on: `margins.json`, `metrics.json`.

    Implicit reward: log pi(y|x) - log pi_ref(y|x), in nats, without beta. For the untrained base it is zero by
    definition, so nothing is computed: its margin is 0, every pair is a tie, and it has no rank correlation. For a row
    that starts from a fine-tuned policy, that one is the reference, and `reference` has its log-probabilities. On the
    seed's own pairs no row has a tau: over two responses it is 1 if the pair is ordered correctly and -1 if not. A pair
    whose answers differ only where they are cut is not scored.
    """
    policy = model.policy
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    dtype = scoring_dtype(policy, training)
    has_scores = "responses" in ranked.inputs

    def body(ctx: Context) -> dict[str, Any]:
        examples = ctx.inputs["ranked"].rows("heldout.jsonl", RankedExample)
        rewards = {e.id: [0.0] * len(e.responses) for e in examples}
        if model.trained:
            rewards = _implicit_rewards(ctx, policy, examples, training, model.load(ctx, dtype), batch_size)
        identical = _identical_once_cut(examples, policy, lengths)
        margins = {e.id: None if e.id in identical else _seed_margin(e, rewards[e.id]) for e in examples}
        # A constant has no rank order: for the base there is nothing to score, which is not "failed to score".
        taus = [_tau(e, rewards[e.id]) for e in examples] if model.trained else []
        metrics = {
            "heldout.pair_accuracy": accuracy_metric(
                [None if m is None else (m > 0) + 0.5 * (m == 0) for m in margins.values()]
            ),
            "heldout.margin": mean_metric(list(margins.values())),
        }
        if has_scores:
            metrics["heldout.kendall_tau"] = mean_metric(taus)
        write_json(ctx.folder / "margins.json", margins)
        write_metrics(ctx, metrics)
        return {"pairs": len(margins), **({"identical_once_cut": len(identical)} if identical else {})}

    def estimate() -> Estimate:
        if not model.trained:
            return Estimate()
        tokens = sizes.heldout_prompts * sizes.responses_a_prompt * sizes.pair_tokens
        loaded = [policy.model]
        return Estimate(scored_tokens=tokens, work=work(loaded, tokens), waiting=loading(loaded))

    params = {"policy": policy_identity(policy), "dtype": dtype, **lengths}
    inputs = {"ranked": ranked, "reference": reference, **model.inputs}
    return Stage(f"heldout/{row}", "heldout", 2, params, inputs, body, estimate)


def _identical_once_cut(examples: Sequence[RankedExample], policy: Policy, lengths: Mapping[str, int]) -> set[str]:
    """Ids of the examples whose chosen and rejected response have the same tokens once they are cut: there is no order
    to be measured, for the base as for any other row."""
    tokenizer = models.load_tokenizer(policy.model, policy.revision)
    identical = set()
    for example in examples:
        texts = [r.text for r in example.responses if r.source in ("seed:chosen", "seed:rejected")]
        encoded = [chat.encode(tokenizer, example.messages, text, **lengths).response for text in texts]
        if len(encoded) == 2 and encoded[0] == encoded[1]:
            identical.add(example.id)
    return identical


def _implicit_rewards(
    ctx: Context, policy: Policy, examples: Sequence[RankedExample], training: Training, model: Any, batch_size: int
) -> dict[str, list[float]]:
    """By example id, one per response."""
    from harness.logprobs.score import score_rows
    from harness.training.policy import autocast_dtype

    rows = [(e.messages, r.text) for e in examples for r in e.responses]
    reference = ctx.inputs["reference"].json("reference.json")
    tokenizer = models.load_tokenizer(policy.model, policy.revision)
    ctx.progress.start("held-out log-probabilities", len(rows))
    scored = score_rows(
        model,
        tokenizer,
        rows,
        max_prompt_length=training.max_prompt_length,
        max_length=training.max_length,
        batch_size=batch_size,
        advance=ctx.progress.advance,
        autocast=autocast_dtype(policy, training.lora),
    )
    remaining = iter(scored)
    return {e.id: [next(remaining).logp - ref for ref in reference[e.id]] for e in examples}


def _seed_margin(example: RankedExample, rewards: Sequence[float]) -> float | None:
    """Implicit reward of the seed's chosen response minus that of its rejected one."""
    by_source = {r.source: reward for r, reward in zip(example.responses, rewards, strict=True)}
    if "seed:chosen" not in by_source or "seed:rejected" not in by_source:
        return None
    return by_source["seed:chosen"] - by_source["seed:rejected"]


def _tau(example: RankedExample, rewards: Sequence[float]) -> float | None:
    """Rank correlation of the implicit rewards with the reward model's scores over one prompt's responses."""
    scored = [(r.score, reward) for r, reward in zip(example.responses, rewards, strict=True) if r.score is not None]
    return kendall_tau([s for s, _ in scored], [reward for _, reward in scored])
