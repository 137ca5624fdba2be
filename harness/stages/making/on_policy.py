"""The stage of a later round's responses: the policy that the round before has trained answers the training prompts."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from harness.augmentation.answering import engines_of_row
from harness.augmentation.own_policy import OwnPolicy
from harness.components import identity
from harness.engine.journal import content_key
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.errors import DataError
from harness.models.templates.thoughts import Thinking
from harness.protocols import Generator
from harness.recipe.data import Data, ResponseGeneration, ResponseSource
from harness.recipe.evaluation import AnswerSampling
from harness.recipe.making.rounds import is_policys
from harness.recipe.sizes import Later, Sizes, seed_prompt_count
from harness.servers.addressed import engines_of
from harness.serving.engine import Named
from harness.stages.responses import (
    new_group,
    params_of,
    sample_pools,
    sampling_estimate,
    seed_group,
    spreads_of,
    write_responses,
)
from harness.training.checkpoint import RowModel, Weights
from harness.types import PreferencePair, Prompt, ResponseGroup


def round_responses_stage(
    data: Data,
    later: Later,
    row: str,
    model: RowModel,
    prompts: tuple[Stage, Stage | None],
    seed: int,
    rank: int | None,
    thinking: Thinking = "strip",
) -> Stage:
    """`responses.jsonl` of a round after the first, as of the first (`responses_stage`), but of training prompts alone:
    rows are measured on the held-out responses of the first. `model`, the policy of `row`, takes the place of the
    untrained policy among the recipe's generators; the others write what they do in any round. `prompts`: the stages
    with the seed's prompts, and with the new ones. `rank`: of the largest adapter that an engine is given."""
    assert data.responses is not None
    seed = derived_seed(seed, "responses")
    config = _in_place(data.responses, row, model, rank)

    def body(ctx: Context) -> dict[str, Any]:
        trained = _with(config, model.weights(ctx))
        report = write_responses(ctx, trained, _groups(ctx, data, later), seed, thinking)
        if not report["prompts"]:
            raise DataError(
                f"round {later.number}: the responses of '{row}' to each prompt are all the same; raise "
                "data.responses.temperature, or train less in a round"
            )
        return report

    generators = [source.generator for source in config.sources_of(config.n)]
    params = params_of(config, seed) | ({"thinking": thinking} if thinking != "strip" else {})
    if later.rounds.prompts == "new":
        params["block"] = [later.number, data.generated_per_seed]
    seeds, new = prompts
    inputs = {"seeds": seeds, **({"prompts": new} if new else {}), **model.inputs}
    pool = content_key([identity(g) for g in generators])
    sizes = Sizes(data, later)

    def estimate() -> Estimate:
        texts = sizes.new_prompts * config.n + sizes.seed_prompts * (config.n - 2 * config.seed_responses)
        estimate = sampling_estimate(generators, texts, config.most_tokens, sizes.prompt_tokens)
        return estimate._replace(pool=content_key([pool, params, {role: stage.key for role, stage in inputs.items()}]))

    return Stage(
        "responses",
        "responses",
        4,
        params,
        inputs,
        body,
        estimate,
        exclusive=sample_pools(seeds, generators, "responses"),
        serves=config.n,
        spreads=spreads_of(*generators),
        engines=_engines(generators, model, rank),
    )


def _in_place(config: ResponseGeneration, row: str, model: RowModel, rank: int | None) -> ResponseGeneration:
    """The recipe's generators, with the trained policy in place of the untrained one."""

    def of(generator: Generator) -> Generator:
        return OwnPolicy.after(row, model, generator, rank) if is_policys(generator, model.policy) else generator

    return _mapped(config, [of(source.generator) for source in config.sources_of(config.n)])


def _with(config: ResponseGeneration, weights: Weights) -> ResponseGeneration:
    """The same once the policy is trained."""

    def of(generator: Generator) -> Generator:
        is_own = isinstance(generator, OwnPolicy)
        return generator.model_copy(update={"weights": weights}) if is_own else generator

    return _mapped(config, [of(source.generator) for source in config.sources])


def _mapped(config: ResponseGeneration, generators: list[Generator]) -> ResponseGeneration:
    counts = [source.n for source in config.sources_of(config.n)]
    sources = [ResponseSource.model_construct(generator=g, n=n) for g, n in zip(generators, counts, strict=True)]
    return config.model_copy(update={"generator": None, "sources": sources})


def _engines(generators: list[Generator], model: RowModel, rank: int | None) -> tuple[Named, ...]:
    """The engines that are known before the policy is trained: a model that is trained as a whole has its own."""
    found = list(engines_of(*(g for g in generators if not isinstance(g, OwnPolicy))))
    for own in (g for g in generators if isinstance(g, OwnPolicy)):
        found += engines_of_row(model, AnswerSampling.model_construct(generator=own.like), rank)
    return tuple(found)


def _groups(ctx: Context, data: Data, later: Later) -> Iterator[ResponseGroup]:
    """The round's prompts. New ones are those that follow on the prompts of the rounds before. Raises DataError if
    there are none left."""
    assert data.responses is not None
    seeds = ctx.inputs["seeds"]
    ranked = seed_prompt_count(data.responses.seed_prompts, seeds.report["train"])
    new = None if data.generated_per_seed is None else round(data.generated_per_seed * ranked)
    before = later.number - 1 if later.rounds.prompts == "new" else 0
    found = 0
    for pair in islice(seeds.stream("train.jsonl", PreferencePair), before * ranked, (before + 1) * ranked):
        found += 1
        yield seed_group(pair, "train", data.responses.seed_responses)
    wanted = ranked
    if "prompts" in ctx.inputs:
        places = (before * new, (before + 1) * new) if new is not None and before else (0, None)
        wanted += new if new is not None and before else 0
        for prompt in islice(ctx.inputs["prompts"].stream("prompts.jsonl", Prompt), *places):
            found += 1
            yield new_group(prompt)
    if not found:
        raise DataError(f"rounds.prompts: no prompt is left for round {later.number}; use prompts: same")
    if found < wanted:
        ctx.log.warning("only %d of %d new prompts are left for round %d", found, wanted, later.number)
