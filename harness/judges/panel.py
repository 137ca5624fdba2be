"""Several judges as one."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from harness.components import JudgeField, identity
from harness.errors import JudgeError, RecipeError
from harness.protocols import Judge
from harness.types import JudgeReply, JudgeRequest


class Panel(Judge):
    """Asks each of `judges` and averages their verdicts (2404.18796): probabilities if two answers are compared,
    ratings if one is rated. A member's missing verdict is left out of the mean; if all are missing, the answer is not
    scored. The members' agreement is reported with the verdicts (see `harness.judging.panel`).

    Each member gets the benchmark's prompt, and its reply is read by the benchmark's rule, as if it judged alone. Each
    member has its own journal, so adding a member asks only that member.
    """

    judges: tuple[JudgeField, ...] = Field(min_length=2)
    """Its members."""

    @property
    def members(self) -> tuple[Judge, ...]:
        """The judges that are asked."""
        return self.judges

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "judges": [identity(judge) for judge in self.judges]}

    def check(self) -> None:
        for judge in self.judges:
            if judge.members or judge.recorded:
                raise RecipeError(f"judge 'panel': '{judge.name}' can't be a member; expected judges that can be asked")
        identities = [identity(judge) for judge in self.judges]
        if repeated := next((one for i, one in enumerate(identities) if one in identities[:i]), None):
            raise RecipeError(
                f"judge 'panel': '{repeated['name']}' is listed twice; its verdicts would count "
                "twice (give models that only have a name in common a `served_as` each)"
            )

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """Raises JudgeError: a panel averages verdicts, which the benchmark reads from its members' replies."""
        raise JudgeError("judge 'panel' judges only benchmarks; to score responses by several, use reward 'ensemble'")
