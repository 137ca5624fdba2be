"""The stage of the reference's log-probabilities. Each response is scored once, in however many ranked datasets it
is."""

from collections.abc import Sequence
from typing import Any

from harness.engine.journal import Journal, content_key
from harness.engine.stage import Context, Estimate, Stage
from harness.engine.store import write_json
from harness.models import load as models
from harness.models.workload import loading, work
from harness.recipe.recipe import Policy, policy_identity
from harness.recipe.sizes import Sizes
from harness.recipe.training import Training
from harness.training.checkpoint import scoring_bits, scoring_dtype, starting_policy
from harness.types import Messages, RankedExample, Record


class Logp(Record):
    """A row of the journal: `harness.logprobs.score.SequenceLogp`."""

    logp: float
    tokens: int
    truncated: bool


def reference_stage(
    policy: Policy, training: Training, ranked: Stage, sft: Stage | None, sizes: Sizes, batch_size: int
) -> Stage:
    """Log-probabilities of all responses under the policy that training starts from: `reference.json`,
    {example id: [one per response]}. Methods that cut at the same lengths and start from the same policy share it.
    Responses that another dataset has too come from the journal."""
    bits = scoring_bits(training)
    params = {
        "policy": policy_identity(policy),
        "dtype": scoring_dtype(policy, training),
        **_lengths(training),
        **({"bits": bits} if bits else {}),
    }
    scored_by = params | ({"sft": sft.key} if sft else {})

    def body(ctx: Context) -> dict[str, Any]:
        examples = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        examples += ctx.inputs["ranked"].rows("heldout.jsonl", RankedExample)
        rows = [(e.messages, r.text) for e in examples for r in e.responses]
        keys = [content_key([m.model_dump() for m in messages] + [text]) for messages, text in rows]
        path = ctx.store.journals / "logps" / f"logps-{content_key(scored_by)[:16]}.jsonl"
        journal = Journal(path, Logp, column="scored")
        finished = journal.rows()
        missing = {key: place for place, key in enumerate(keys) if key not in finished}
        ctx.progress.start("reference log-probabilities", len(rows))
        ctx.progress.advance(len(rows) - len(missing))
        if missing:
            logps = _score(ctx, policy, training, [rows[place] for place in missing.values()], batch_size)
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

    def estimate() -> Estimate:
        tokens, loaded = sizes.scored_tokens, [policy.model]
        responses = ranked.inputs.get("responses")
        pool = content_key([scored_by, responses.estimate().pool if responses else ranked.key])
        return Estimate(scored_tokens=tokens, work=work(loaded, tokens), waiting=loading(loaded), pool=pool)

    return Stage(
        "reference",
        "reference",
        2,
        params,
        {"ranked": ranked} | ({"sft": sft} if sft else {}),
        body,
        estimate,
        exclusive=frozenset({f"logps/{content_key(scored_by)}"}),
        serves=sizes.responses_a_prompt,
    )


def _lengths(training: Training) -> dict[str, int]:
    return {"max_prompt_length": training.max_prompt_length, "max_length": training.max_length}


def _score(
    ctx: Context, policy: Policy, training: Training, rows: Sequence[tuple[Messages, str]], batch_size: int
) -> list[Logp]:
    """One per (prompt, response), in order."""
    from harness.logprobs.score import score_rows
    from harness.training.policy import autocast_dtype

    start = starting_policy(policy, ctx.inputs.get("sft"))
    dtype, bits = scoring_dtype(policy, training), scoring_bits(training)
    logps = score_rows(
        models.load_causal_lm(start.model, start.revision, dtype, bits),
        models.load_tokenizer(start.model, start.revision),
        rows,
        **_lengths(training),
        batch_size=batch_size,
        advance=ctx.progress.advance,
        autocast=autocast_dtype(policy, training.lora),
    )
    return [Logp(**logp._asdict()) for logp in logps]
