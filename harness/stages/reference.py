"""The stages of the reference's log-probabilities: as training computes them, and for held-out figures of policies in
half precision. Each response is scored once, in however many ranked datasets it is."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from harness.augmentation.served_logps import ServedLikelihoods, served
from harness.engine.journal import Journal, content_key
from harness.engine.shards.spool import Shard, dealt
from harness.engine.stage import Context, Estimate, Stage
from harness.engine.store import write_json
from harness.errors import RecipeError
from harness.models import chat
from harness.models.demand.loads import loading
from harness.models.load import Dtype
from harness.recipe.policy import Policy, policy_tokenizer, scored_identity
from harness.recipe.sizes import Sizes
from harness.recipe.training import Runtime, Training
from harness.servers.adapting.continuing import Given
from harness.training.checkpoint import (
    RowModel,
    Weights,
    scoring_bits,
    scoring_dtype,
    starting_point,
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
    policy: Policy,
    training: Training,
    ranked: Stage,
    sft: Stage | None,
    sizes: Sizes,
    runtime: Runtime,
    previous: Stage | None = None,
) -> Stage:
    """Log-probabilities of all responses under the policy that training starts from: `reference.json`,
    {example id: [one per response]}. Methods that cut at the same lengths and start from the same policy share it.
    `previous`: the training of an earlier round, whose policy is the reference; None: the policy before all. Responses
    that another dataset has too come from the journal. With `training.reference`, an engine scores them: then training
    doesn't begin with a reward of exactly 0, and the report says who has scored."""
    dtype = scoring_dtype(policy, training, fine_tuned=sft is not None)
    products = products_identity(policy, training)
    by_engine = served("training.reference", training.reference)
    if by_engine and scoring_bits(training):
        raise RecipeError("training.reference: an engine doesn't have the quantised base: leave it out")
    scoring = _Scoring(policy, dtype, scoring_bits(training), training, sft, runtime, products, by_engine, previous)

    def body(ctx: Context) -> dict[str, Any]:
        from harness.training.policy import autocast_dtype

        def examples() -> Iterator[RankedExample]:
            for file in ("ranked.jsonl", "heldout.jsonl"):
                yield from ctx.inputs["ranked"].stream(file, RankedExample)

        start, adapter = starting_point(policy, training, ctx.inputs.get("sft"), ctx.inputs.get("previous"))
        weights = Weights(model=start.model, revision=start.revision, dtype=dtype, bits=scoring.bits, adapter=adapter)
        return scoring.write(ctx, examples, weights, partial(autocast_dtype, start, training.lora))

    return scoring.stage("reference", {}, ranked, body, lambda: sizes.scored_tokens, sizes.responses_a_prompt)


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
        weights = model.reference_weights(ctx, dtype)
        scored = seed_pairs(examples) if only_pairs else examples
        return scoring.write(ctx, lambda: scored, weights)

    n = 2 if only_pairs else sizes.responses_a_prompt
    of = {"heldout": "pairs" if only_pairs else "responses"}

    def tokens() -> int:
        return sizes.heldout_prompts * n * sizes.pair_tokens

    return scoring.stage(f"reference/heldout-{dtype}", of, ranked, body, tokens)


def pair_places(example: RankedExample) -> tuple[int, int] | None:
    """The places of the chosen and the rejected response among an example's: the seed's, or of a ranking made
    elsewhere the first of the best and of the worst; None if it has no such pair."""
    places = {r.source: place for place, r in enumerate(example.responses)}
    if "seed:chosen" in places and "seed:rejected" in places:
        return places["seed:chosen"], places["seed:rejected"]
    scores = [r.score for r in example.responses if r.score is not None]  # best first, unscored ones last
    if len(set(scores)) < 2 or "seed:chosen" in places or "seed:rejected" in places:
        return None
    return 0, scores.index(scores[-1])


def seed_pairs(examples: Sequence[RankedExample]) -> list[RankedExample]:
    """The examples with their chosen and rejected response alone, in their order."""
    return [
        e.model_copy(update={"responses": tuple(e.responses[i] for i in sorted(pair_places(e) or ()))})
        for e in examples
    ]


def _rows(examples: Sequence[RankedExample]) -> tuple[list[tuple[Messages, str]], list[str]]:
    """All (prompt, response) of some examples, and their keys in the journal."""
    rows = [(e.messages, r.text) for e in examples for r in e.responses]
    return rows, [content_key([m.model_dump() for m in messages] + [text]) for messages, text in rows]


@dataclass(frozen=True)
class _Scoring:
    """Log-probabilities under the policy that a training starts from. `policy`: the recipe's; `bits`: of its quantised
    base; `sft`: the stage that fine-tuned it; `products`: as in `products_identity`; `by_engine`: who scores instead of
    this process; `previous`: the stage that trained it in an earlier round."""

    policy: Policy
    dtype: Dtype
    bits: Literal[4, 8] | None
    training: Training
    sft: Stage | None
    runtime: Runtime
    products: Mapping[str, str] = field(default_factory=dict)
    by_engine: ServedLikelihoods | None = None
    previous: Stage | None = None

    @property
    def lengths(self) -> dict[str, int]:
        return {"max_prompt_length": self.training.max_prompt_length, "max_length": self.training.max_length}

    @property
    def params(self) -> dict[str, Any]:
        """What they depend on besides the texts and the fine-tuning."""
        bits = {"bits": self.bits} if self.bits else {}
        # An engine multiplies in the dtype of the weights.
        how = {"served_by": self.by_engine.kind} if self.by_engine else dict(self.products)
        return {"policy": scored_identity(self.policy), "dtype": self.dtype, **self.lengths, **bits, **how}

    @property
    def scored_by(self) -> dict[str, Any]:
        return self.params | {role: stage.key for role, stage in self.trained.items()}

    @property
    def trained(self) -> dict[str, Stage]:
        """The stages that have trained it, by role."""
        return {role: stage for role, stage in (("sft", self.sft), ("previous", self.previous)) if stage}

    def write(
        self,
        ctx: Context,
        examples: Callable[[], Iterable[RankedExample]],
        weights: Weights,
        autocast: "Callable[[], torch.dtype | None]" = lambda: None,
    ) -> dict[str, Any]:
        """Write `reference.json`, and report. Only what the journal doesn't have is scored, with these weights.
        `examples`: all of them, anew at each call. `autocast`: of the machine that scores."""
        journal = self._journal(ctx)
        finished, found, count = journal.rows(), 0, 0

        def missing() -> Iterator[tuple[str, RankedExample]]:
            nonlocal found, count
            for example in examples():
                keys = _rows([example])[1]
                count += len(keys)
                if all(key in finished for key in keys):
                    found += len(keys)
                else:
                    yield example.id, example

        with dealt(missing(), ctx.folder, ctx.worker_count) as parts:
            ctx.progress.start("reference log-probabilities", count)
            ctx.progress.advance(found)
            if len(parts):
                ctx.spread(partial(self._finish, weights, autocast), parts.shards)
        finished, logps, tokens, truncated = journal.rows(), {}, 0, 0
        for example in examples():
            scored = [finished[key] for key in _rows([example])[1]]
            logps[example.id] = [row.logp for row in scored]
            tokens += sum(row.tokens for row in scored)
            truncated += sum(row.truncated for row in scored)
        write_json(ctx.folder / "reference.json", logps)
        return {
            "responses": count,
            "tokens": tokens,
            "truncated": truncated,
            **({"scored_by": f"served by {self.by_engine.kind}"} if self.by_engine else {}),
        }

    def _journal(self, ctx: Context) -> Journal[Logp]:
        path = ctx.store.journals / "logps" / f"logps-{content_key(self.scored_by)[:16]}.jsonl"
        return Journal(path, Logp, column="scored")

    def _finish(
        self, weights: Weights, autocast: "Callable[[], torch.dtype | None]", ctx: Context, shard: Shard
    ) -> None:
        """Score what the journal doesn't have of a shard's examples."""
        rows, keys = _rows(list(shard.rows(RankedExample)))
        journal = self._journal(ctx)
        finished = journal.rows()
        missing = {key: place for place, key in enumerate(keys) if key not in finished}
        ctx.progress.advance(len(keys) - len(missing))  # stored, or the same as another
        if missing and self.by_engine:
            self._ask(ctx, self.by_engine, weights, [rows[place] for place in missing.values()], [*missing], journal)
        elif missing:
            logps = self._score(ctx, weights, [rows[place] for place in missing.values()], autocast())
            # All at once: a stopped stage then forms the same batches again, with the same numbers to the last digit.
            journal.append(zip(missing, logps, strict=True))

    def _ask(
        self,
        ctx: Context,
        by_engine: ServedLikelihoods,
        weights: Weights,
        rows: Sequence[tuple[Messages, str]],
        keys: Sequence[str],
        journal: Journal[Logp],
    ) -> None:
        """Have an engine score these rows, each kept as it comes."""
        tokenizer = policy_tokenizer(self.policy)
        encoded = [chat.encode(tokenizer, messages, text, **self.lengths) for messages, text in rows]

        def arrived(i: int, logp: float) -> None:
            row = Logp(logp=logp, tokens=len(encoded[i].response), truncated=encoded[i].truncated)
            journal.append([(keys[i], row)])
            ctx.progress.advance(1)

        by_engine.score(ctx, weights, [Given(e.prompt, e.response) for e in encoded], arrived)

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
        tokens: Callable[[], int],
        serves: int = 0,
    ) -> Stage:
        """The stage that scores about `tokens()` tokens; `of` tells stages of different texts apart."""

        def estimate() -> Estimate:
            loaded, responses = [self.policy.model], ranked.inputs.get("responses")
            pool = content_key([self.scored_by, responses.estimate().pool if responses else ranked.key])
            scored = tokens()
            load = self.runtime.scoring(self.policy.model, scored, self.training.max_length, self.dtype)
            return Estimate(scored_tokens=scored, loads=(load,), waiting=loading(loaded), pool=pool)

        return Stage(
            stage_id,
            "reference",
            2,
            {**self.params, **of},
            {"ranked": ranked, **self.trained},
            body,
            estimate,
            exclusive=frozenset({f"logps/{content_key(self.scored_by)}"}),
            serves=serves,
            spreads="by resources",
            # That of a fine-tuned policy is known to its stage alone.
            engines=self.by_engine.engines(self.policy, self.dtype) if self.by_engine and not self.trained else (),
        )
