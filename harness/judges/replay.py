"""No judge at all: recorded verdicts, from files."""

from collections.abc import Sequence
from typing import ClassVar

from harness.errors import JudgeError
from harness.protocols import Judge
from harness.types import JudgeReply, JudgeRequest


class Replay(Judge):
    """Uses the recorded verdicts of a recipe's `systems` as they are, and asks nobody. The board names the judge that
    gave them."""

    recorded: ClassVar[bool] = True
    """The verdicts are in files."""

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """Raises JudgeError: there is nothing to ask."""
        raise JudgeError("judge 'replay' has recorded verdicts only, and can't be asked; use another judge")
