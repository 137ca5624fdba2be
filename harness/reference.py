"""The stage of the reference's log-probabilities: each response is put through the reference once, whatever ranked
datasets it stands in."""

from collections.abc import Sequence
from typing import Any

from harness import models
from harness.journal import Journal, content_key
from harness.recipe import Recipe, Training
from harness.responses import scored_tokens
from harness.stages import Context, Estimate, Stage
from harness.store import write_json
from harness.train import (
    policy_identity,
    responses_a_prompt,
    scoring_bits,
    scoring_dtype,
    started_from,
    starting_policy,
)
from harness.types import Messages, RankedExample, Record
from harness.workload import loading, work


class Logp(Record):
    """What the journal holds: `harness.training.logps.SequenceLogp`."""

    logp: float
    tokens: int
    truncated: bool


def reference_stage(recipe: Recipe, ranked: Stage, training: Training, sft: Stage | None = None) -> Stage:
    """Log-probabilities of all responses under the policy that training starts from: `reference.json`,
    {example id: [one a response]}. Methods that cut at the same lengths and start from the same policy share it; what
    another dataset's responses have in common with this one's is found in the journal."""
    lengths = {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}
    dtype, bits = scoring_dtype(recipe, training), scoring_bits(training)
    params = {"policy": policy_identity(recipe), "dtype": dtype, **lengths, **({"bits": bits} if bits else {})}
    scored_by = params | ({"sft": sft.key} if sft else {})

    def body(ctx: Context) -> dict[str, Any]:
        examples = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        examples += ctx.inputs["ranked"].rows("heldout.jsonl", RankedExample)
        rows = [(e.messages, r.text) for e in examples for r in e.responses]
        keys = [content_key([m.model_dump() for m in messages] + [text]) for messages, text in rows]
        path = ctx.store.journals / "logps" / f"logps-{content_key(scored_by)[:16]}.jsonl"
        journal = Journal(path, Logp, column="scored")
        known = journal.rows()
        missing = {key: place for place, key in enumerate(keys) if key not in known}
        ctx.progress.start("reference log-probabilities", len(rows))
        ctx.progress.advance(len(rows) - len(missing))
        if missing:
            _score(ctx, [rows[place] for place in missing.values()], list(missing), journal)
        found = [journal.rows()[key] for key in keys]
        left = iter(found)
        write_json(ctx.folder / "reference.json", {e.id: [next(left).logp for _ in e.responses] for e in examples})
        return {
            "responses": len(rows),
            "tokens": sum(f.tokens for f in found),
            "truncated": sum(f.truncated for f in found),
        }

    def _score(ctx: Context, rows: Sequence[tuple[Messages, str]], keys: Sequence[str], journal: Journal[Logp]) -> None:
        from harness.training.logps import score_rows
        from harness.training.policy import autocast_dtype

        policy = starting_policy(recipe, ctx.inputs.get("sft"))
        scored = score_rows(
            models.load_causal_lm(policy.model, policy.revision, dtype, bits),
            models.load_tokenizer(policy.model, policy.revision),
            rows,
            **lengths,
            batch_size=recipe.runtime.score_batch_size,
            advance=ctx.progress.advance,
            autocast=autocast_dtype(recipe.policy, training.lora),
        )
        # All at once: a stage that was stopped forms the same batches again, and so the same numbers to the last digit.
        journal.append((key, Logp(**s._asdict())) for key, s in zip(keys, scored, strict=True))

    def estimate() -> Estimate:
        tokens, loaded = scored_tokens(recipe), [recipe.policy.model]
        responses = ranked.inputs.get("responses")
        pool = content_key([scored_by, responses.estimate().pool if responses else ranked.key])
        return Estimate(scored_tokens=tokens, work=work(loaded, tokens), waiting=loading(loaded), pool=pool)

    return Stage(
        "reference",
        "reference",
        2,
        params,
        {"ranked": ranked, **started_from(sft)},
        body,
        estimate,
        exclusive=frozenset({f"logps/{content_key(scored_by)}"}),
        serves=responses_a_prompt(recipe),
    )
