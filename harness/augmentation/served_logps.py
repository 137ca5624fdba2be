"""Log-probabilities of given texts by an engine that serves the model, instead of a pass in this process: by vLLM's
`prompt_logprobs`, of the token ids that this process would read.

They are log-softmax values of the engine's own products, in the dtype that it is started with. Those of float32 differ
from a pass in process in the last digits; those of bfloat16 by some hundredths of a nat a response, as two kernels of
one model do. So whoever takes them says so in its key and in its report.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.engine.stage import Context
from harness.errors import RecipeError
from harness.models.checkpoints.folder import ADAPTER_CONFIG, read_object
from harness.protocols import Generator
from harness.recipe.policy import Policy
from harness.servers.adapting.continuing import Continuing, Given
from harness.serving.engine import Named
from harness.training.checkpoint import Weights


class ServedLikelihoods(NamedTuple):
    """An engine that is asked; see `served`."""

    asked: Continuing
    named: Named

    @property
    def kind(self) -> str:
        """The kind of engine: for keys and reports."""
        return self.named.engine.name

    def engines(self, policy: Policy, dtype: str) -> tuple[Named, ...]:
        """The engine that a stage needs for the policy."""
        return (Named(self.named.name, self.named.engine.of(policy.model, policy.revision, dtype)),)

    def score(
        self, ctx: Context, weights: Weights, rows: Sequence[Given], arrived: Callable[[int, float], None]
    ) -> None:
        """Call `arrived` with the index and the summed log-probability (nats) of each row, in any order, as they come.
        Raises ModelError if one can't be had; those that arrived before are kept."""
        rank = _rank(weights.adapter) if weights.adapter else None
        engine = self.named.engine.of(weights.model, weights.revision, weights.dtype, rank)
        asked = self.asked.on(Named(self.named.name, engine), weights.adapter)
        asked.logps(rows, arrived=arrived, threads=self.asked.parallel_requests, look=lambda: ctx.progress.advance(0))


def _rank(adapter: Path) -> int:
    """The largest rank in an adapter."""
    config = read_object(adapter / ADAPTER_CONFIG, adapter)
    return max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])


def served(field: str, generator: Generator | None) -> ServedLikelihoods | None:
    """The engine of a recipe's field; None: log-probabilities are computed in process. Raises RecipeError."""
    if generator is None:
        return None
    if not isinstance(generator, Continuing) or generator.engine is None:
        raise RecipeError(f"{field}: expected {{name: openai, engine: NAME}}, an engine of runtime.engines")
    return ServedLikelihoods(generator, generator.engine)
