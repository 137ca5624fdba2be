"""Passes over rows without gradients: in this process, or shared by the processes of `runtime.launch`.

Batches are formed first and shared out then, so the results are those of one process. What fits into one batch is
scored in this process, unless the model is sharded.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from harness.children.shares import sharing
from harness.components import build
from harness.models.conversation import tokenizer_with
from harness.models.templates.variables import TemplateVariables
from harness.protocols import Keep, Ready, RewardModel
from harness.recipe.launch import Accelerate, Launch
from harness.training.checkpoint import Weights
from harness.training.processes import Job, run_job
from harness.types import Advance, Messages

if TYPE_CHECKING:
    from harness.logprobs.score import SequenceLogp


class Pass(Job):
    """A pass over `rows`, (prompt, response) each. `may_be_sharded`: a model that is too large for one process may be
    shared by all; else each process holds a whole one."""

    may_be_sharded: ClassVar[bool] = False

    rows: tuple[tuple[Messages, str], ...]

    def run(self, advance: Advance, keep: Keep = lambda rows: None) -> Any:
        from harness.training import sharding

        sharded = self.may_be_sharded and sharding.is_sharded()
        state = sharding.connect(whole=not sharded, timeout=sharding.LONGEST_WAIT)
        with sharing(state.process_index, state.num_processes, even=sharded):
            return self.compute(advance, keep)

    def compute(self, advance: Advance, keep: Keep) -> Any:
        """The results for all rows, in order."""
        raise NotImplementedError


class LogpPass(Pass):
    """Log-probabilities by `harness.logprobs.score.score_rows`; see there. `tokenizer`: a model's name and revision;
    `variables`: values for its chat template; `autocast`: torch's name of a dtype."""

    may_be_sharded: ClassVar[bool] = True

    weights: Weights
    tokenizer: tuple[str, str | None]
    variables: TemplateVariables = Field(default_factory=dict)
    max_prompt_length: int
    max_length: int
    batch_size: int
    autocast: str | None = None

    def compute(self, advance: Advance, keep: Keep) -> "list[SequenceLogp]":
        import torch

        from harness.logprobs.score import score_rows
        from harness.training import sharding

        return score_rows(
            self.weights.load(),
            tokenizer_with(*self.tokenizer, self.variables),
            self.rows,
            max_prompt_length=self.max_prompt_length,
            max_length=self.max_length,
            batch_size=self.batch_size,
            advance=advance,
            autocast=getattr(torch, self.autocast) if self.autocast else None,
            shard=sharding.shard if sharding.is_sharded() else None,
        )


class RewardPass(Pass):
    """Scores by a reward model that shares its batches. `reward`: the component's fields; `folder`: that of its
    stage."""

    reward: dict[str, Any]
    folder: Path

    def compute(self, advance: Advance, keep: Keep) -> list[float | None]:
        def ask(judge: Any) -> Any:
            raise NotImplementedError(f"{judge.name} is asked by the process that started this one")

        model: RewardModel = build("reward", self.reward)  # type: ignore[assignment]
        return model.score(self.rows, Ready(self.folder, advance, ask, (), keep))


def log_probabilities(work: LogpPass, launch: Launch | None, folder: Path, advance: Advance) -> "list[SequenceLogp]":
    """One per row, in order. `folder`: for the files of the processes."""
    from harness.logprobs.score import SequenceLogp

    accelerate = _processes(launch)
    if accelerate is None or (len(work.rows) <= work.batch_size and accelerate.kind != "FSDP"):
        return work.compute(advance, lambda rows: None)
    return [SequenceLogp(*row) for row in run_job(work, accelerate, folder, advance)]


def reward_scores(
    model: RewardModel, rows: Sequence[tuple[Messages, str]], ready: Ready, launch: Launch | None, folder: Path
) -> list[float | None]:
    """One per row, in order. `folder`: for the files of the processes."""
    accelerate = _processes(launch)
    if accelerate is None or model.batch_rows is None or len(rows) <= model.batch_rows:
        return model.score(rows, ready)
    work = RewardPass(rows=tuple(rows), reward=model.model_dump(mode="json"), folder=ready.folder)
    scores: list[float | None] = run_job(work, accelerate, folder, ready.advance, ready.keep)
    return scores


def _processes(launch: Launch | None) -> Accelerate | None:
    """The processes that share a pass; None: this one does it alone. DeepSpeed is for training only."""
    if launch is None or launch.accelerate.processes == 1:
        return None
    if launch.accelerate.kind == "DEEPSPEED":
        return Accelerate(num_processes=launch.accelerate.processes)
    return launch.accelerate
