"""Several judges as one."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from harness.components import Component, JudgeField, identity
from harness.errors import JudgeError, RecipeError
from harness.protocols import Judge
from harness.types import JudgeReply, JudgeRequest


class Panel(Component):
    """Asks every one of `judges` and averages their verdicts (2404.18796): probabilities where two answers are
    compared, ratings where one is rated. A verdict that a member did not give is left out of the mean, and one that
    none gave is not scored. How far they agree is reported with the verdicts (see `harness.panels`).

    Every member reads the benchmark's prompt, and its reply is read by the benchmark's rule, as if it judged alone; its
    replies are in its own journal: with a member more, only that one is asked.
    """

    judges: tuple[JudgeField, ...] = Field(min_length=2)

    @property
    def members(self) -> tuple[Judge, ...]:
        """The judges that are asked."""
        return self.judges

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "judges": [identity(judge) for judge in self.judges]}

    def check(self) -> None:
        for judge in self.judges:
            if getattr(judge, "members", ()) or getattr(judge, "recorded", False):
                raise RecipeError(
                    f"judge 'panel': '{identity(judge)['name']}' can't be a member; name judges to be asked"
                )
        told = [identity(judge) for judge in self.judges]
        if repeated := next((one for i, one in enumerate(told) if one in told[:i]), None):
            raise RecipeError(f"judge 'panel': '{repeated['name']}' is there twice; its verdicts would count twice")

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """Raises JudgeError: what is averaged is verdicts, which the benchmark reads out of its members' replies."""
        raise JudgeError("judge 'panel' judges benchmarks; responses are scored by several as reward 'ensemble'")
