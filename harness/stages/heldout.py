"""The stage that measures how a policy orders the held-out pairs."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from harness.engine.stage import Context, Estimate, Stage
from harness.engine.store import write_json
from harness.figures import MARGIN, MARGIN_KEPT, TRAINED_MARGIN
from harness.models import chat
from harness.models.demand.loads import loading
from harness.recipe.policy import Policy, policy_tokenizer, scored_identity
from harness.recipe.sizes import Sizes
from harness.recipe.training import Runtime, Training
from harness.stages._metrics import write_metrics
from harness.stages.ranked import SEEDS_OWN
from harness.stages.reference import heldout_reference_stage, pair_places, seed_pairs
from harness.stats.agreement import kendall_tau
from harness.stats.intervals import accuracy_metric, mean_metric, ratio_metric
from harness.training.checkpoint import RowModel, Weights, scoring_bits, scoring_dtype
from harness.training.passes import LogpPass, log_probabilities
from harness.types import Metric, RankedExample

LEAST_MARGIN = 1e-6
"""Nats. A mean margin below this is the rounding of float32 log-probabilities, not something that was learnt."""

Rewards = dict[str, list[float]]
"""By example id, one per response."""
Margins = Mapping[str, float | None]
"""By example id; None where not scored."""


class References(NamedTuple):
    """Stages with the reference's log-probabilities of the held-out responses. `answering`: in the dtype that answers;
    None for the untrained base, which is its own reference. `exact`: of the seed's pairs in float32, for a policy that
    answers in half precision."""

    answering: Stage | None = None
    exact: Stage | None = None


def references(
    model: RowModel, training: Training, ranked: Stage, reference: Stage, sizes: Sizes, runtime: Runtime
) -> References:
    """`reference`: the one that training reads. It serves here too if the policy that answers is in float32 and on the
    base that was trained, rather than merged from adapters of a quantised one."""
    if model.trained is None:
        return References()
    as_trained = scoring_dtype(model.policy, training, fine_tuned=model.sft is not None), scoring_bits(training)
    if as_trained == ("float32", model.bits) == (model.dtype, model.bits) and training.reference is None:
        return References(reference)
    answering = heldout_reference_stage(model, model.dtype, training, ranked, sizes, runtime)
    if model.dtype == "float32":
        return References(answering)
    return References(
        answering, heldout_reference_stage(model, "float32", training, ranked, sizes, runtime, only_pairs=True)
    )


def heldout_stage(
    row: str, model: RowModel, training: Training, ranked: Stage, reference: References, sizes: Sizes, runtime: Runtime
) -> Stage:
    """How the policy's implicit rewards order responses that it was not trained on: `margins.json`, `metrics.json`.

    Implicit reward: log pi(y|x) - log pi_ref(y|x), in nats, without beta, of the policy that answers and in the dtype
    in which it answers. For the untrained base it is zero by definition, so nothing is computed: its margin is 0, every
    pair is a tie, and it has no rank correlation. For a row that starts from a fine-tuned policy, that one is the
    reference. On the seed's own pairs no row has a tau: over two responses it is 1 if the pair is ordered correctly and
    -1 if not. A pair whose answers differ only where they are cut is not scored.

    The margin kept is the mean margin over that of what was trained, in float32 and on the same pairs: 1 by definition
    for a policy that answers in float32. What was trained on a quantised base is measured on that base, too, so that
    the figure is about rounding alone; with 8 bits, its linear layers still multiply in int8.
    """
    policy = model.policy
    has_scores = ranked.params.get("responses") != SEEDS_OWN
    measurement = _Measurement(model, training, has_scores, reference.exact is not None, runtime)

    def estimate() -> Estimate:
        if not model.trained:
            return Estimate()
        n = sizes.responses_a_prompt + (2 if reference.exact else 0)
        tokens = sizes.heldout_prompts * n * sizes.pair_tokens
        loaded = [policy.model] * (2 if reference.exact else 1)
        load = runtime.scoring(policy.model, tokens, training.max_length, model.dtype)
        return Estimate(scored_tokens=tokens, loads=(load,), waiting=loading(loaded))

    params = {
        "policy": scored_identity(policy),
        "dtype": model.dtype,
        **measurement.lengths,
        **({"bits": model.bits} if model.bits else {}),
        **model.identity,
    }
    roles = {"reference": reference.answering, "float32_reference": reference.exact}
    inputs = {"ranked": ranked, **model.inputs} | {role: stage for role, stage in roles.items() if stage}
    return Stage(f"heldout/{row}", "heldout", 4, params, inputs, measurement.run, estimate)


@dataclass(frozen=True)
class _Measurement:
    """What the stage does. `has_scores`: the responses have a reward model's; `in_half`: the policy answers in half
    precision."""

    model: RowModel
    training: Training
    has_scores: bool
    in_half: bool
    runtime: Runtime

    @property
    def lengths(self) -> dict[str, int]:
        return {"max_prompt_length": self.training.max_prompt_length, "max_length": self.training.max_length}

    def run(self, ctx: Context) -> dict[str, Any]:
        """Measure, write the files, and report."""
        model = self.model
        examples = ctx.inputs["ranked"].rows("heldout.jsonl", RankedExample)
        identical = _identical_once_cut(examples, model.policy, self.lengths)
        rewards: Rewards = {e.id: [0.0] * len(e.responses) for e in examples}
        if model.trained:
            rewards = self._implicit_rewards(ctx, examples, model.weights(ctx), "reference")
        margins = _margins(examples, rewards, identical)
        metrics = {
            "heldout.pair_accuracy": accuracy_metric(
                [None if m is None else (m > 0) + 0.5 * (m == 0) for m in margins.values()]
            ),
            MARGIN: mean_metric(list(margins.values())),
        }
        if self.has_scores:
            # A constant has no rank order: for the base there is nothing to score, which is not "failed to score".
            taus = [_tau(e, rewards[e.id]) for e in examples if model.trained]
            metrics["heldout.kendall_tau"] = mean_metric(taus, limits=(-1.0, 1.0))
        trained = None
        if self.in_half:
            gc.collect()  # the policy that was just scored
            pairs = seed_pairs(examples)
            in_float32 = self._implicit_rewards(ctx, pairs, model.trained_weights(ctx), "float32_reference")
            trained = _margins(pairs, in_float32, identical)
            metrics[TRAINED_MARGIN] = mean_metric(list(trained.values()))
            write_json(ctx.folder / "trained_margins.json", trained)
        metrics[MARGIN_KEPT], reason = _margin_kept(margins, trained, untrained=model.trained is None)
        write_json(ctx.folder / "margins.json", margins)
        write_metrics(ctx, metrics)
        report: dict[str, Any] = {"pairs": len(margins), "dtype": model.dtype}
        report |= {"identical_once_cut": len(identical)} if identical else {}
        return report | ({"no_margin_kept": reason} if reason else {})

    def _implicit_rewards(
        self, ctx: Context, examples: Sequence[RankedExample], weights: Weights, reference: str
    ) -> Rewards:
        """`reference`: the input with the reference's log-probabilities."""
        policy = self.model.policy
        rows = [(e.messages, r.text) for e in examples for r in e.responses]
        logps = ctx.inputs[reference].json("reference.json")
        ctx.progress.start("held-out log-probabilities", len(rows))
        scoring = LogpPass(
            rows=tuple(rows),
            weights=weights,
            tokenizer=(policy.model, policy.revision),
            variables=policy.chat_template_kwargs,
            **self.lengths,
            batch_size=self.runtime.score_batch_size,
        )
        remaining = iter(log_probabilities(scoring, self.runtime.launch, ctx.partial, ctx.progress.advance))
        return {e.id: [next(remaining).logp - ref for ref in logps[e.id]] for e in examples}


def _margin_kept(margins: Margins, trained: Margins | None, *, untrained: bool) -> tuple[Metric, str | None]:
    """(the mean of the margins over that of `trained`, what was trained in float32; why there is no value). `trained`
    None: the margins are of it."""
    wholes = margins if trained is None else trained
    pairs = [(m, t) for key, m in margins.items() if m is not None and (t := wholes[key]) is not None]
    counts = {"n": len(pairs), "n_invalid": len(margins) - len(pairs)}
    if untrained:
        return Metric(value=None), "nothing was trained"
    if not pairs:
        return Metric(value=None, **counts), "no held-out pair was scored"
    if trained is None:
        return Metric(value=1.0, **counts), None
    mean = fmean(t for _, t in pairs)
    if abs(mean) < LEAST_MARGIN:
        return Metric(value=None, **counts), f"in float32, too, training reached no margin ({mean:.1g} nats)"
    return ratio_metric([m for m, _ in pairs], [t for _, t in pairs]).model_copy(update=counts), None


def _identical_once_cut(examples: Sequence[RankedExample], policy: Policy, lengths: Mapping[str, int]) -> set[str]:
    """Ids of the examples whose chosen and rejected response have the same tokens once they are cut: there is no order
    to be measured, for the base as for any other row."""
    tokenizer = policy_tokenizer(policy)
    identical = set()
    for example in seed_pairs(examples):
        encoded = [chat.encode(tokenizer, example.messages, r.text, **lengths).response for r in example.responses]
        if len(encoded) == 2 and encoded[0] == encoded[1]:
            identical.add(example.id)
    return identical


def _margins(examples: Sequence[RankedExample], rewards: Rewards, identical: set[str]) -> dict[str, float | None]:
    """The implicit reward of the chosen response minus that of the rejected one, by example id."""
    margins: dict[str, float | None] = {}
    for example in examples:
        places, of_example = pair_places(example), rewards[example.id]
        scored = places is not None and example.id not in identical
        margins[example.id] = of_example[places[0]] - of_example[places[1]] if places and scored else None
    return margins


def _tau(example: RankedExample, rewards: Sequence[float]) -> float | None:
    """Rank correlation of the implicit rewards with the reward model's scores over one prompt's responses."""
    scored = [(r.score, reward) for r, reward in zip(example.responses, rewards, strict=True) if r.score is not None]
    return kendall_tau([s for s, _ in scored], [reward for _, reward in scored])
