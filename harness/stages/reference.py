"""The stages of the reference's log-probabilities: as training computes them, and for held-out figures of policies in
half precision. Each response is scored once, in however many ranked datasets it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness.engine.journal import Journal, content_key
from harness.engine.stage import Context, Estimate, Stage
from harness.engine.store import write_json
from harness.models.load import Dtype
from harness.models.workload import loading, work
from harness.recipe.policy import Policy, scored_identity
from harness.recipe.sizes import Sizes
from harness.recipe.training import Runtime, Training
from harness.training.checkpoint import (
    CHECKPOINT,
    RowModel,
    Weights,
    in_float32,
    scoring_bits,
    scoring_dtype,
    starting_policy,
)
from harness.training.passes import LogpPass, log_probabilities
from harness.training.setup import products_identity
from harness.types import Messages, RankedExample, Record

if TYPE_CHECKING:
    import torch


class Logp(Record):
    """A row of the journal: `harness.logprobs.score.SequenceLogp`."""

    logp: float
    tokens: int
    truncated: bool


def reference_stage(
    policy: Policy, training: Training, ranked: Stage, sft: Stage | None, sizes: Sizes, runtime: Runtime
) -> Stage:
    """Log-probabilities of all responses under the policy that training starts from: `reference.json`,
    {example id: [one per response]}. Methods that cut at the same lengths and start from the same policy share it.
    Responses that another dataset has too come from the journal."""
    dtype = scoring_dtype(policy, training, fine_tuned=sft is not None)
    products = products_identity(policy, training)
    scoring = _Scoring(policy, dtype, scoring_bits(training), training, sft, runtime, products)

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.policy import autocast_dtype

        examples = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        examples += ctx.inputs["ranked"].rows("heldout.jsonl", RankedExample)
        start = starting_policy(policy, training, ctx.inputs.get("sft"))
        weights = Weights(model=start.model, revision=start.revision, dtype=dtype, bits=scoring.bits)
        return scoring.write(ctx, examples, weights, autocast_dtype(start, training.lora))

    return scoring.stage("reference", {}, ranked, body, sizes.scored_tokens, sizes.responses_a_prompt)


def heldout_reference_stage(
    model: RowModel,
    dtype: Dtype,
    training: Training,
    ranked: Stage,
    sizes: Sizes,
    runtime: Runtime,
    only_pairs: bool = False,
) -> Stage:
    """Log-probabilities of the held-out responses (`only_pairs`: of the seed's own pairs) under the policy that the
    training of `model` started from, in `dtype` as its answers are, without any autocasting: `reference.json`, as
    above. Of a fine-tuned policy, the deployed one in half precision, and what was trained in float32."""
    scoring = _Scoring(model.policy, dtype, model.bits, training, model.sft, runtime)

    def body(ctx: Context) -> dict[str, Any]:
        examples = ctx.inputs["ranked"].rows("heldout.jsonl", RankedExample)
        name, revision = model.policy.model, model.policy.revision
        if sft := ctx.inputs.get("sft"):
            name, revision = str(in_float32(sft.folder) if dtype == "float32" else sft.folder / CHECKPOINT), None
        weights = Weights(model=name, revision=revision, dtype=dtype, bits=model.bits)
        return scoring.write(ctx, seed_pairs(examples) if only_pairs else examples, weights)

    n = 2 if only_pairs else sizes.responses_a_prompt
    of = {"heldout": "pairs" if only_pairs else "responses"}
    return scoring.stage(f"reference/heldout-{dtype}", of, ranked, body, sizes.heldout_prompts * n * sizes.pair_tokens)


def seed_pairs(examples: Sequence[RankedExample]) -> list[RankedExample]:
    """The examples with the seed's chosen and rejected response alone."""
    return [
        e.model_copy(
            update={"responses": tuple(r for r in e.responses if r.source in ("seed:chosen", "seed:rejected"))}
        )
        for e in examples
    ]


@dataclass(frozen=True)
class _Scoring:
    """Log-probabilities under the policy that a training starts from. `policy`: the recipe's; `bits`: of its quantised
    base; `sft`: the stage that fine-tuned it; `products`: as in `products_identity`."""

    policy: Policy
    dtype: Dtype
    bits: Literal[4, 8] | None
    training: Training
    sft: Stage | None
    runtime: Runtime
    products: Mapping[str, str] = field(default_factory=dict)

    @property
    def lengths(self) -> dict[str, int]:
        return {"max_prompt_length": self.training.max_prompt_length, "max_length": self.training.max_length}

    @property
    def params(self) -> dict[str, Any]:
        """What they depend on besides the texts and the fine-tuning."""
        bits = {"bits": self.bits} if self.bits else {}
        return {"policy": scored_identity(self.policy), "dtype": self.dtype, **self.lengths, **bits, **self.products}

    @property
    def scored_by(self) -> dict[str, Any]:
        return self.params | ({"sft": self.sft.key} if self.sft else {})

    def write(
        self,
        ctx: Context,
        examples: Sequence[RankedExample],
        weights: Weights,
        autocast: "torch.dtype | None" = None,
    ) -> dict[str, Any]:
        """Write `reference.json`, and report. Only what the journal doesn't have is scored, with these weights."""
        rows = [(e.messages, r.text) for e in examples for r in e.responses]
        keys = [content_key([m.model_dump() for m in messages] + [text]) for messages, text in rows]
        path = ctx.store.journals / "logps" / f"logps-{content_key(self.scored_by)[:16]}.jsonl"
        journal = Journal(path, Logp, column="scored")
        finished = journal.rows()
        missing = {key: place for place, key in enumerate(keys) if key not in finished}
        ctx.progress.start("reference log-probabilities", len(rows))
        ctx.progress.advance(len(rows) - len(missing))
        if missing:
            logps = self._score(ctx, weights, [rows[place] for place in missing.values()], autocast)
            # All at once: a stopped stage then forms the same batches again, with the same numbers to the last digit.
            journal.append(zip(missing, logps, strict=True))
        finished = journal.rows()
        scored = [finished[key] for key in keys]
        remaining = iter(scored)
        write_json(ctx.folder / "reference.json", {e.id: [next(remaining).logp for _ in e.responses] for e in examples})
        return {
            "responses": len(rows),
            "tokens": sum(row.tokens for row in scored),
            "truncated": sum(row.truncated for row in scored),
        }

    def _score(
        self, ctx: Context, weights: Weights, rows: Sequence[tuple[Messages, str]], autocast: "torch.dtype | None"
    ) -> list[Logp]:
        """One per (prompt, response), in order."""
        scoring = LogpPass(
            rows=tuple(rows),
            weights=weights,
            tokenizer=(self.policy.model, self.policy.revision),
            variables=self.policy.chat_template_kwargs,
            **self.lengths,
            batch_size=self.runtime.score_batch_size,
            autocast=str(autocast).removeprefix("torch.") if autocast else None,
        )
        logps = log_probabilities(scoring, self.runtime.launch, ctx.partial, ctx.progress.advance)
        return [Logp(**logp._asdict()) for logp in logps]

    def stage(
        self,
        stage_id: str,
        of: Mapping[str, str],
        ranked: Stage,
        body: Callable[[Context], dict[str, Any]],
        tokens: int,
        serves: int = 0,
    ) -> Stage:
        """The stage that scores about `tokens` tokens; `of` tells stages of different texts apart."""

        def estimate() -> Estimate:
            loaded, responses = [self.policy.model], ranked.inputs.get("responses")
            pool = content_key([self.scored_by, responses.estimate().pool if responses else ranked.key])
            return Estimate(scored_tokens=tokens, work=work(loaded, tokens), waiting=loading(loaded), pool=pool)

        return Stage(
            stage_id,
            "reference",
            2,
            {**self.params, **of},
            {"ranked": ranked} | ({"sft": self.sft} if self.sft else {}),
            body,
            estimate,
            exclusive=frozenset({f"logps/{content_key(self.scored_by)}"}),
            serves=serves,
        )
