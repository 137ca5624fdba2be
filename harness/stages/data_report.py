"""The stage of the variety report: what the ranked dataset is like, side by side with its seed. Nothing is trained on
it."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.augmentation.diversity import compared, draw_texts, shares
from harness.augmentation.filters import user_text
from harness.augmentation.perplexity import Likelihood, perplexity, text_likelihoods
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.engine.store import write_json
from harness.models import embedding
from harness.models import load as models
from harness.models.workload import work
from harness.recipe.data import Report
from harness.recipe.policy import Policy, policy_tokenizer, scored_identity
from harness.recipe.sizes import Sizes
from harness.types import Messages, PreferencePair, RankedExample

MAX_TOKENS = 512
"""Longer texts are cut before their perplexity is computed."""
BATCH = 8
Rows = Sequence[tuple[Messages, str]]
"""(prompt, response)"""


def report_stage(config: Report, policy: Policy, seeds: Stage, ranked: Stage, seed: int, sizes: Sizes) -> Stage:
    """Seed prompts, new prompts and responses side by side: `report.json` (see `harness.augmentation.diversity`), with
    perplexities under the untrained policy."""
    seed = derived_seed(seed, "report")
    embedder = embedding.resolved(config.embeddings)

    def body(ctx: Context) -> dict[str, Any]:
        examples = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        pairs = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
        prompts = {
            "seed prompts": [user_text(p.messages) for p in pairs],
            "new prompts": [user_text(e.messages) for e in examples if e.source == "generated"],
        }
        rows = _response_groups(examples)
        responses = {name: [text for _, text in group] for name, group in rows.items()}
        report: dict[str, Any] = {
            "prompts": compared(prompts, config.max_texts, seed),
            "responses": compared(responses, config.max_texts, seed),
            "shares": shares(prompts["seed prompts"], prompts["new prompts"], config.max_texts, seed),
        }
        if config.perplexity:
            for kind, values in _perplexities(ctx, policy, config.max_texts, prompts, rows, seed).items():
                for name, value in values.items():
                    report[kind][name]["perplexity"] = value
        if embedder is not None:
            for kind, texts in (("prompts", prompts), ("responses", responses)):
                for name, value in _spreads(config.max_texts, embedder, texts, seed).items():
                    report[kind][name]["embedding_spread"] = value
        write_json(ctx.folder / "report.json", report)
        return {"new_prompts": len(prompts["new prompts"]), "responses": sum(len(e.responses) for e in examples)}

    params = {"seed": seed, **config.model_dump(mode="json", exclude={"embeddings"})}
    if embedder is not None:
        params["embeddings"] = models.identity(embedder)
    if config.perplexity:
        params["policy"] = scored_identity(policy)

    def estimate() -> Estimate:
        tokens = sizes.scored_tokens if config.perplexity else 0
        return Estimate(scored_tokens=tokens, work=work([policy.model], tokens))

    return Stage("report", "report", 1, params, {"seeds": seeds, "ranked": ranked}, body, estimate)


def _response_groups(examples: Sequence[RankedExample]) -> dict[str, list[tuple[Messages, str]]]:
    """(prompt, response) rows by the response's source, and of those ranked first and last."""
    groups: dict[str, list[tuple[Messages, str]]] = {}
    for example in examples:
        for response in example.responses:
            groups.setdefault(response.source, []).append((example.messages, response.text))
        if len({r.score for r in example.responses}) > 1:
            groups.setdefault("ranked first", []).append((example.messages, example.responses[0].text))
            last = [r for r in example.responses if r.score is not None][-1]
            groups.setdefault("ranked last", []).append((example.messages, last.text))
    return groups


def _perplexities(
    ctx: Context,
    policy: Policy,
    max_texts: int,
    prompts: Mapping[str, Sequence[str]],
    responses: Mapping[str, Rows],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Of prompts as texts by themselves, and of responses given their prompts."""
    from harness.logprobs.score import score_rows

    tokenizer = policy_tokenizer(policy)
    model = models.load_causal_lm(policy.model, policy.revision, policy.dtype)
    texts = {name: draw_texts(group, max_texts, seed) for name, group in prompts.items()}
    rows = {name: _sampled_rows(group, max_texts, seed) for name, group in responses.items()}
    ctx.progress.start("perplexities", sum(map(len, texts.values())) + sum(map(len, rows.values())))
    options: dict[str, Any] = {"batch_size": BATCH, "advance": ctx.progress.advance}
    values: dict[str, dict[str, Any]] = {"prompts": {}, "responses": {}}
    for name, group in texts.items():
        likelihoods = text_likelihoods(model, tokenizer, group, max_tokens=MAX_TOKENS, **options)
        values["prompts"][name] = perplexity(likelihoods)
    for name, pairs in rows.items():
        scored = score_rows(
            model, tokenizer, pairs, max_prompt_length=MAX_TOKENS // 2, max_length=MAX_TOKENS, **options
        )
        values["responses"][name] = perplexity([Likelihood(s.logp, s.tokens) for s in scored])
    return values


def _sampled_rows(rows: Rows, count: int, seed: int) -> list[tuple[Messages, str]]:
    places = {int(place) for place in draw_texts([str(i) for i in range(len(rows))], count, seed)}
    return [row for i, row in enumerate(rows) if i in places]


def _spreads(max_texts: int, embedder: str, groups: Mapping[str, Sequence[str]], seed: int) -> dict[str, Any]:
    model = embedding.load(embedder)
    return {name: embedding.spread(model, draw_texts(texts, max_texts, seed)) for name, texts in groups.items()}
