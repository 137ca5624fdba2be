"""The stage of the variety report: what the ranked dataset is like, side by side with its seed. Nothing is trained on
it."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.augmentation.diversity import NEIGHBOURS, compared, cover, draw_texts, sample_self_bleu, shares
from harness.augmentation.filters import user_text
from harness.augmentation.perplexity import Likelihood, perplexity, text_ids, text_likelihoods
from harness.augmentation.served_logps import ServedLikelihoods, served
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.engine.store import write_json
from harness.models import chat, embedding
from harness.models import load as models
from harness.models.demand.loads import Scoring
from harness.recipe.data import Report
from harness.recipe.policy import Policy, policy_tokenizer, scored_identity
from harness.recipe.sizes import Sizes
from harness.servers.adapting.continuing import Given
from harness.training.checkpoint import Weights
from harness.types import Messages, PreferencePair, RankedExample

MAX_TOKENS = 512
"""Longer texts are cut before their perplexity is computed."""
LENGTHS: dict[str, Any] = {"max_prompt_length": MAX_TOKENS // 2, "max_length": MAX_TOKENS}
"""Of responses with their prompts."""
BATCH = 8
Rows = Sequence[tuple[Messages, str]]
"""(prompt, response)"""


def report_stage(config: Report, policy: Policy, seeds: Stage, ranked: Stage, seed: int, sizes: Sizes) -> Stage:
    """Seed prompts, new prompts and responses side by side: `report.json` (see `harness.augmentation.diversity`), with
    perplexities under the untrained policy. The stage's own report has the self-BLEU of what is trained on."""
    seed = derived_seed(seed, "report")
    embedder = embedding.resolved(config.embeddings)
    by_engine = served("data.report.generator", config.generator) if config.perplexity else None

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
            if by_engine:
                report["perplexities_by"] = f"served by {by_engine.kind}"
            for kind, values in _perplexities(ctx, policy, by_engine, config.max_texts, prompts, rows, seed).items():
                for name, value in values.items():
                    report[kind][name]["perplexity"] = value
        if embedder is not None:
            for kind, texts in (("prompts", prompts), ("responses", responses)):
                for name, value in _spreads(config.max_texts, embedder, texts, seed).items():
                    report[kind][name]["embedding_spread"] = value
            report["topics"] = _topics(config.max_texts, embedder, prompts, seed)
        write_json(ctx.folder / "report.json", report)
        every = [response.text for example in examples for response in example.responses]
        return {
            "new_prompts": len(prompts["new prompts"]),
            "responses": len(every),
            "prompt_self_bleu": sample_self_bleu([user_text(e.messages) for e in examples], seed),
            "response_self_bleu": sample_self_bleu(every, seed),
        }

    params = {"seed": seed, **config.model_dump(mode="json", exclude={"embeddings", "generator"})}
    if embedder is not None:
        params["embeddings"] = models.identity(embedder)
        params["topics"] = NEIGHBOURS
    if config.perplexity:
        params["policy"] = scored_identity(policy)
    if by_engine:
        params["served_by"] = by_engine.kind

    def estimate() -> Estimate:
        tokens = sizes.scored_tokens if config.perplexity else 0
        load = Scoring(policy.model, tokens, MAX_TOKENS, BATCH, policy.dtype)
        return Estimate(scored_tokens=tokens, loads=(load,) if tokens else ())

    engines = by_engine.engines(policy, policy.dtype) if by_engine else ()
    return Stage("report", "report", 2, params, {"seeds": seeds, "ranked": ranked}, body, estimate, engines=engines)


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
    by_engine: ServedLikelihoods | None,
    max_texts: int,
    prompts: Mapping[str, Sequence[str]],
    responses: Mapping[str, Rows],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Of prompts as texts by themselves, and of responses given their prompts."""
    tokenizer = policy_tokenizer(policy)
    texts = {name: draw_texts(group, max_texts, seed) for name, group in prompts.items()}
    rows = {name: _sampled_rows(group, max_texts, seed) for name, group in responses.items()}
    ctx.progress.start("perplexities", sum(map(len, texts.values())) + sum(map(len, rows.values())))
    values: dict[str, dict[str, Any]] = {"prompts": {}, "responses": {}}
    if by_engine:
        for name, group in texts.items():
            alone = [Given(ids[:1], ids[1:]) for ids in text_ids(tokenizer, group, MAX_TOKENS)]
            values["prompts"][name] = perplexity(_asked(ctx, policy, by_engine, alone))
        for name, pairs in rows.items():
            encoded = [chat.encode(tokenizer, messages, text, **LENGTHS) for messages, text in pairs]
            given = [Given(e.prompt, e.response) for e in encoded]
            values["responses"][name] = perplexity(_asked(ctx, policy, by_engine, given))
        return values
    from harness.logprobs.score import score_rows

    model = models.load_causal_lm(policy.model, policy.revision, policy.dtype)
    options: dict[str, Any] = {"batch_size": BATCH, "advance": ctx.progress.advance}
    for name, group in texts.items():
        likelihoods = text_likelihoods(model, tokenizer, group, max_tokens=MAX_TOKENS, **options)
        values["prompts"][name] = perplexity(likelihoods)
    for name, pairs in rows.items():
        scored = score_rows(model, tokenizer, pairs, **LENGTHS, **options)
        values["responses"][name] = perplexity([Likelihood(s.logp, s.tokens) for s in scored])
    return values


def _asked(ctx: Context, policy: Policy, by_engine: ServedLikelihoods, rows: Sequence[Given]) -> list[Likelihood]:
    """The likelihoods of texts by an engine; of one without a token after its prompt there is none."""
    asked = [i for i, row in enumerate(rows) if row.prompt and row.text]
    logps: dict[int, float] = {}

    def arrived(i: int, logp: float) -> None:
        logps[asked[i]] = logp
        ctx.progress.advance(1)

    weights = Weights(model=policy.model, revision=policy.revision, dtype=policy.dtype)
    by_engine.score(ctx, weights, [rows[i] for i in asked], arrived)
    ctx.progress.advance(len(rows) - len(asked))
    return [Likelihood(logps.get(i, 0.0), len(row.text)) for i, row in enumerate(rows)]


def _sampled_rows(rows: Rows, count: int, seed: int) -> list[tuple[Messages, str]]:
    places = {int(place) for place in draw_texts([str(i) for i in range(len(rows))], count, seed)}
    return [row for i, row in enumerate(rows) if i in places]


def _spreads(max_texts: int, embedder: str, groups: Mapping[str, Sequence[str]], seed: int) -> dict[str, Any]:
    model = embedding.load(embedder)
    return {name: embedding.spread(model, draw_texts(texts, max_texts, seed)) for name, texts in groups.items()}


def _topics(most: int, embedder: str, prompts: Mapping[str, Sequence[str]], seed: int) -> dict[str, Any] | None:
    """How the new prompts lie among the seed's topics, at equally many of both."""
    groups = [prompts["seed prompts"], prompts["new prompts"]]
    equal = min(most, *map(len, groups))
    model = embedding.load(embedder)
    return cover(*(embedding.vectors_of(model, draw_texts(group, equal, seed)) for group in groups)) if equal else None
