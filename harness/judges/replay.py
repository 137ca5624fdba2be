"""No judge at all: verdicts that were recorded, from files."""

from collections.abc import Sequence
from typing import ClassVar

from harness.components import Component
from harness.errors import JudgeError
from harness.types import JudgeReply, JudgeRequest


class Replay(Component):
    """The recorded verdicts of a recipe's `systems` are used as they are, and nobody is asked anything. The board names
    who gave them."""

    recorded: ClassVar[bool] = True
    """What says that verdicts are in files."""

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """Raises JudgeError: there is nobody to ask."""
        raise JudgeError("judge 'replay' has recorded verdicts only, and can't be asked; expected a judge that can")
