"""What writes a row's answers: its model in this process, or an engine that serves it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.engine.stage import Context
from harness.errors import ModelError
from harness.models.batching import Job
from harness.models.checkpoints.folder import is_adapter
from harness.models.decode.elsewhere import Elsewhere
from harness.protocols import Arrived, Sampled
from harness.recipe.evaluation import AnswerSampling
from harness.servers.adapting.continuing import Continuing
from harness.serving.engine import Named
from harness.training.checkpoint import RowModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Then = Callable[[Sampled], Job | None]
"""The job that continues a finished sample, if any."""


class Writer(NamedTuple):
    """Writes the samples of jobs, as `harness.models.decoding.decode` does. `at_once`: a job may follow another before
    all have ended."""

    write: Callable[[Sequence[Job], Arrived, Then], None]
    at_once: bool


def engines_of_row(model: RowModel, config: AnswerSampling, rank: int | None) -> tuple[Named, ...]:
    """The engine of a row that is the policy, or an adapter on it: one for all of them. A model that is trained as a
    whole has one of its own, of which only its stage knows. `rank`: of the largest of these adapters."""
    if config.engine is None or model.sft or (model.trained and not model.adapter):
        return ()
    engine = config.engine.engine.of(model.policy.model, model.policy.revision, model.dtype, rank)
    return (Named(config.engine.name, engine),)


def writer_of(
    ctx: Context,
    row: RowModel,
    config: AnswerSampling,
    tokenizer: "PreTrainedTokenizerBase",
    seed: int,
    rank: int | None,
) -> Writer:
    """The writer of a row, in the running stage. `rank`: as in `engines_of_row`."""
    asked, named = config.generator, config.engine
    if not isinstance(asked, Continuing) or named is None:
        return _in_process(ctx, row, tokenizer, seed)
    weights = row.weights(ctx)
    own = weights.model != row.policy.model
    if not own and is_adapter(Path(weights.model)):
        raise ModelError(f"policy {weights.model} is an adapter, which an engine can't answer with: merge it first")
    if own:
        rank = row.adapter.r if row.adapter else None
    engine = named.engine.of(weights.model, weights.revision, weights.dtype, rank)
    served = asked.on(Named(named.name, engine), weights.adapter)
    model = Elsewhere(weights.model, weights.revision, tokenizer, engine.window)
    threads = config.parallel_requests

    def look() -> None:
        ctx.progress.advance(0)

    def write(jobs: Sequence[Job], arrived: Arrived, then: Then) -> None:
        served.write(jobs, model, seed=seed, arrived=arrived, then=then, threads=threads, look=look)

    return Writer(write, at_once=True)


def _in_process(ctx: Context, row: RowModel, tokenizer: "PreTrainedTokenizerBase", seed: int) -> Writer:
    from harness.models.decode.support import decodes_in_slots
    from harness.models.decoding import decode

    model = row.load(ctx)

    def write(jobs: Sequence[Job], arrived: Arrived, then: Then) -> None:
        decode(model, tokenizer, jobs, seed=seed, batch_size=None, arrived=arrived, then=then)

    return Writer(write, decodes_in_slots(model))
