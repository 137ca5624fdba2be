"""The stage of the reward model: trained where it is of a kind that is, and tested on the held-out pairs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.augmentation.admission import batch_invariance, pair_figures
from harness.augmentation.scorer import Score, Scorer
from harness.components import identity
from harness.engine.shards.spool import Shard, dealt
from harness.engine.stage import Context, Estimate, Stage, derived_seed
from harness.files import FITTED, json_text, pair_hash
from harness.judging.costs import journal_name, judges_of
from harness.models.demand.loads import loading
from harness.models.demand.parts import scoring, training
from harness.protocols import RewardModel
from harness.recipe.launch import Launch
from harness.recipe.sizes import Sizes
from harness.servers.addressed import engines_of
from harness.servers.batches.batching import Batching
from harness.types import Messages, PreferencePair, Record, prompt_id


def reward_stage(
    reward: RewardModel, seeds: Stage, seed: int, sizes: Sizes, role: str = "reward", launch: Launch | None = None
) -> Stage:
    """The reward model's files, and in its report what `harness.augmentation.admission` measures on the held-out pairs.
    Reward models that it is composed of have stages of their own, which are inputs of this one. `role`: its name among
    the inputs of later stages. `launch`: the processes that score."""
    parts = [reward_stage(part, seeds, seed, sizes, f"{role}/part/{i}", launch) for i, part in enumerate(reward.parts)]
    seed = derived_seed(seed, "reward")

    def body(ctx: Context) -> dict[str, Any]:
        train = ctx.inputs["seeds"].rows("train.jsonl", PreferencePair)
        heldout = ctx.inputs["seeds"].rows("heldout.jsonl", PreferencePair)
        ctx.progress.start("training the reward model", None)
        report = reward.fit(train, ctx.folder, seed=seed, advance=ctx.progress.advance)
        if reward.is_trained:
            fitted = sorted(pair_hash(prompt_id(p.messages), (p.chosen, p.rejected)) for p in train)
            (ctx.folder / FITTED).write_text(json_text(fitted), encoding="utf-8")
        rows = [(p.messages, text) for p in heldout for text in (p.chosen, p.rejected)]
        scorer = make_scorer(ctx, reward, role, launch, ctx.folder, ctx.key)
        ctx.progress.start("checking whether scores depend on the batch", None)
        invariance = batch_invariance(reward, scorer.ready, rows)
        ctx.progress.start("reward model on held-out pairs", scorer.items(len(rows)))
        scores = scorer(rows)
        pairs = list(zip(scores[::2], scores[1::2], strict=True))
        figures = pair_figures([(p.chosen, p.rejected) for p in heldout], pairs)
        if (high := (figures["accuracy"]["ci95"] or (0, 1))[1]) < 0.5:
            ctx.log.warning("the reward model orders held-out pairs worse than chance (accuracy at most %.3f)", high)
        admission = {**figures, "batch": invariance}
        name = identity(reward)["name"]
        return {"name": name, "training": report, "heldout_accuracy": figures["accuracy"], "admission": admission}

    params = {"reward": identity(reward), "seed": seed}
    inputs = {"seeds": seeds} | {f"{role}/part/{i}": part for i, part in enumerate(parts)}
    for part in parts:
        inputs |= {name: stage for name, stage in part.inputs.items() if name != "seeds"}

    def estimate() -> Estimate:
        models = [] if parts else reward.models_in_process()
        pair = 2 * sizes.pair_tokens
        trained = round(sizes.seed_prompts * pair * reward.training_passes)
        scored = sizes.heldout_prompts * pair
        row, rows = sizes.longest_row, reward.batch_rows or 1
        loads = () if parts else (*scoring(reward, scored, row, rows), *training(reward, trained, row))
        return Estimate(trained_tokens=trained, scored_tokens=scored, loads=loads, waiting=loading(models))

    journals = frozenset(name for part in parts for name in score_journals(reward, part))
    exclusive, engines = journals | _judge_journals(reward), engines_of(reward)
    return Stage(role, "reward", 4, params, inputs, body, estimate, exclusive=exclusive, engines=engines)


def score_journals(reward: RewardModel, ready: Stage) -> frozenset[str]:
    """Names of the journals that scoring with a reward model adds to. `ready`: the stage of the reward model."""
    stages = [ready, *(stage for role, stage in ready.inputs.items() if role != "seeds")]
    return frozenset(f"scores/{stage.key}" for stage in stages) | _judge_journals(reward)


def _judge_journals(reward: RewardModel) -> frozenset[str]:
    return frozenset(f"{journal_name(judge)}/reward" for judge in judges_of(reward))


def make_scorer(
    ctx: Context,
    reward: RewardModel,
    role: str,
    launch: Launch | None,
    folder: Path | None = None,
    key: str | None = None,
) -> Scorer:
    """The scorer of a reward model whose stage is the input called `role`, or (with `folder` and `key`) is running.
    `launch`: the processes that it shares its batches with."""
    parts = [make_scorer(ctx, part, f"{role}/part/{i}", launch) for i, part in enumerate(reward.parts)]
    if folder is None or key is None:
        folder, key = ctx.inputs[role].folder, ctx.inputs[role].record.key
    return Scorer(
        reward,
        folder,
        key=key,
        journals=ctx.store.journals,
        advance=ctx.progress.advance,
        parts=parts,
        spending=ctx.spending,
        launch=launch,
        partial=ctx.partial,
        shard=ctx.shard,
    )


def sends_batches(reward: RewardModel) -> bool:
    """Whether its judge is asked in batches, which a server takes hours for: then all rows are sent at once."""
    return any(isinstance(judge, Batching) and judge.mode == "batch" for judge in judges_of(reward))


class _Row(Record):
    """A response to its prompt."""

    messages: Messages
    text: str


def scored(
    ctx: Context,
    reward: RewardModel,
    role: str,
    launch: Launch | None,
    rows: Sequence[tuple[Messages, str]],
    what: str,
) -> list[float | None]:
    """The scores of (prompt, response) rows, in order, by a reward model whose stage is the input called `role`. Where
    the stage has workers, each scores all rows of the prompts in its shards. `what`: for the progress bar."""
    scorer = make_scorer(ctx, reward, role, launch)
    ctx.progress.start(what, scorer.items(len(rows)))
    if ctx.workers is None:
        return scorer(rows)
    by_prompt = ((prompt_id(messages), _Row(messages=messages, text=text)) for messages, text in rows)
    with dealt(by_prompt, ctx.folder, ctx.worker_count, together=sends_batches(reward)) as parts:
        ctx.spread(partial(_score_shard, reward, role, launch), parts.shards, more=True)
        return [row.score for row in parts.results(Score)]


def _score_shard(reward: RewardModel, role: str, launch: Launch | None, ctx: Context, shard: Shard) -> None:
    """Score a shard's rows; the results are `Score`."""
    rows = [(row.messages, row.text) for row in shard.rows(_Row)]
    shard.write(Score(score=score) for score in make_scorer(ctx, reward, role, launch)(rows))
