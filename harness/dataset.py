"""The last stages of the data: what the ranked dataset is like, side by side with its seed, and the dataset as a folder
with a card, ready to be read with `datasets.load_dataset` or put on a hub."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from harness import embedding, models
from harness.components import identity
from harness.dataset_card import card
from harness.diversity import compared, sampled, shares
from harness.perplexity import Likelihood, perplexity, text_likelihoods
from harness.prompt_filters import user_text
from harness.recipe import Recipe
from harness.recipe_data import Report
from harness.responses import scored_tokens
from harness.stages import Context, Estimate, Stage, derived_seed
from harness.store import write_json
from harness.train import policy_identity
from harness.types import Messages, PreferencePair, RankedExample
from harness.workload import work

MAX_TOKENS = 512
"""Longer texts are cut for their perplexity."""
BATCH = 8
Rows = Mapping[str, Sequence[tuple[Messages, str]]]


def report_stage(recipe: Recipe, data: Mapping[str, Stage], config: Report) -> Stage:
    """Seed prompts, new prompts and responses side by side: `report.json` (see `harness.diversity`), with perplexities
    under the recipe's policy."""
    seed = derived_seed(recipe.seed, "report")
    embedder = embedding.resolved(config.embeddings)

    def body(ctx: Context) -> dict[str, Any]:
        ranked = ctx.inputs["ranked"].rows("ranked.jsonl", RankedExample)
        seeds = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
        prompts = {
            "seed prompts": [user_text(p.messages) for p in seeds],
            "new prompts": [user_text(e.messages) for e in ranked if e.source == "generated"],
        }
        responses = _responses(ranked)
        answers = {name: [text for _, text in rows] for name, rows in responses.items()}
        report: dict[str, Any] = {
            "prompts": compared(prompts, config.max_texts, seed),
            "responses": compared(answers, config.max_texts, seed),
            "shares": shares(prompts["seed prompts"], prompts["new prompts"], config.max_texts, seed),
        }
        if config.perplexity:
            for kind, found in _perplexities(ctx, recipe, config, prompts, responses, seed).items():
                for name, value in found.items():
                    report[kind][name]["perplexity"] = value
        if embedder is not None:
            for kind, texts in (("prompts", prompts), ("responses", answers)):
                for name, value in _spreads(config, embedder, texts, seed).items():
                    report[kind][name]["embedding_spread"] = value
        write_json(ctx.folder / "report.json", report)
        return {"new_prompts": len(prompts["new prompts"]), "responses": sum(len(e.responses) for e in ranked)}

    params = {"seed": seed, **config.model_dump(mode="json", exclude={"embeddings"})}
    if embedder is not None:
        params["embeddings"] = models.identity(embedder)
    if config.perplexity:
        params["policy"] = policy_identity(recipe)

    def estimate() -> Estimate:
        tokens = scored_tokens(recipe) if config.perplexity else 0
        return Estimate(scored_tokens=tokens, work=work([recipe.policy.model], tokens))

    return Stage("report", "report", 1, params, {role: data[role] for role in ("seeds", "ranked")}, body, estimate)


def _responses(ranked: Sequence[RankedExample]) -> dict[str, list[tuple[Messages, str]]]:
    """(prompt, response) by who wrote it, and by rank."""
    groups: dict[str, list[tuple[Messages, str]]] = {}
    for example in ranked:
        for response in example.responses:
            groups.setdefault(response.source, []).append((example.messages, response.text))
        if len({r.score for r in example.responses}) > 1:
            groups.setdefault("ranked first", []).append((example.messages, example.responses[0].text))
            last = [r for r in example.responses if r.score is not None][-1]
            groups.setdefault("ranked last", []).append((example.messages, last.text))
    return groups


def _perplexities(
    ctx: Context, recipe: Recipe, config: Report, prompts: Mapping[str, Sequence[str]], responses: Rows, seed: int
) -> dict[str, dict[str, Any]]:
    """Of prompts as texts on their own, and of responses given their prompts."""
    from harness.training.logps import score_rows

    policy = recipe.policy
    tokenizer, model = models.load_tokenizer(policy.model, policy.revision), None
    model = models.load_causal_lm(policy.model, policy.revision, policy.dtype)
    texts = {name: sampled(rows, config.max_texts, seed) for name, rows in prompts.items()}
    answers = {name: _drawn(rows, config.max_texts, seed) for name, rows in responses.items()}
    ctx.progress.start("perplexities", sum(map(len, texts.values())) + sum(map(len, answers.values())))
    options: dict[str, Any] = {"batch_size": BATCH, "advance": ctx.progress.advance}
    found: dict[str, dict[str, Any]] = {"prompts": {}, "responses": {}}
    for name, rows in texts.items():
        own = text_likelihoods(model, tokenizer, rows, max_tokens=MAX_TOKENS, **options)
        found["prompts"][name] = perplexity(own)
    for name, pairs in answers.items():
        scored = score_rows(
            model, tokenizer, pairs, max_prompt_length=MAX_TOKENS // 2, max_length=MAX_TOKENS, **options
        )
        found["responses"][name] = perplexity([Likelihood(s.logp, s.tokens) for s in scored])
    return found


def _spreads(config: Report, embedder: str, groups: Mapping[str, Sequence[str]], seed: int) -> dict[str, Any]:
    model = embedding.load(embedder)
    return {name: embedding.spread(model, sampled(texts, config.max_texts, seed)) for name, texts in groups.items()}


def _drawn(rows: Sequence[tuple[Messages, str]], count: int, seed: int) -> list[tuple[Messages, str]]:
    kept = {int(place) for place in sampled([str(i) for i in range(len(rows))], count, seed)}
    return [row for i, row in enumerate(rows) if i in kept]


def dataset_stage(recipe: Recipe, data: Mapping[str, Stage]) -> Stage:
    """The ranked dataset as a folder: `ranked.jsonl` (train), `heldout.jsonl`, and a card, `README.md`."""
    roles = [name for name in ("seeds", "prompts", "responses", "reward", "ranked", "report") if name in data]

    def body(ctx: Context) -> dict[str, Any]:
        ranked = ctx.inputs["ranked"]
        for name in ("ranked.jsonl", "heldout.jsonl"):
            shutil.copyfile(ranked.path(name), ctx.folder / name)
        report = ctx.inputs["report"].json("report.json") if "report" in ctx.inputs else None
        facts = {role: ctx.inputs[role].report for role in roles}
        text = card(recipe.name, facts, sources, recipe_text, report)
        (ctx.folder / "README.md").write_text(text, encoding="utf-8")
        return {k: v for k, v in ranked.report.items() if k in ("train_prompts", "heldout_prompts", "responses")}

    sources = [
        {"name": identity(s)["name"], "licence": getattr(s, "licence", None), "home": getattr(s, "home", None)}
        for s in recipe.data.seeds
    ]
    recipe_text = _made_with(recipe)
    params = {"name": recipe.name, "sources": sources, "made_with": recipe_text}
    return Stage("dataset", "dataset", 2, params, {role: data[role] for role in roles}, body)


def _made_with(recipe: Recipe) -> dict[str, Any]:
    """The generators and the reward model, as the card names them."""
    found: dict[str, Any] = {}
    prompts, responses = recipe.data.prompts, recipe.data.responses
    if prompts:
        found["prompts"] = {"generator": _named(prompts.generator), "shots": prompts.shots}
        found["prompts"] |= {"temperature": prompts.temperature, "top_p": prompts.top_p}
    if responses:
        sources = [f"{_named(s.generator)} ({s.n} of {responses.n})" for s in responses.sources_of(responses.n)]
        found["responses"] = {"generators": sources, "temperature": responses.temperature, "top_p": responses.top_p}
    if recipe.data.reward:
        found["reward"] = _named(recipe.data.reward)
    return found


def _named(component: object) -> str:
    known = identity(component)
    model = known.get("model") or known.get("base") or ""
    model = model.get("model", "") if isinstance(model, Mapping) else model
    return f"{known['name']} {model}".strip()
