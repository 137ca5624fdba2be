"""Whether a served judge answers at all so that it can be read: told by its first replies, instead of by all."""

import threading
from collections.abc import Sequence

from harness.errors import JudgeError
from harness.printable import printable
from harness.protocols import Judge
from harness.servers.adapting.opening import Opening
from harness.servers.adapting.refusals import about_length
from harness.types import JudgeReply

LONGEST_EXCERPT = 80
"""Characters of a reply that are shown."""


class Outlook:
    """What the replies of one judge have shown so far. A judge in process is never given up: its replies cost nothing
    and wouldn't change. `readable`: replies that could be read."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._opening = Opening()
        self._unread: str | None = None
        self.readable = 0

    def enter(self, stop: threading.Event) -> None:
        """Wait until a call may start: few do before one is answered. Raises Stopped."""
        if self._judge.is_served:
            self._opening.enter(stop)

    def note(self, reply: JudgeReply, unread: str | None) -> None:
        """Count a reply. `unread`: why it can't be read."""
        self.readable += reply.error is None and unread is None
        if unread is not None and self._unread is None:
            text = printable(reply.text, LONGEST_EXCERPT)
            self._unread = f"{unread}; the first: '{text}'" if text else unread

    def see(self, replies: Sequence[tuple[JudgeReply, str | None]]) -> None:
        """Look at replies that have just arrived, and at why they can't be read. Raises JudgeError if the first ones
        show that no other can be read either."""
        if not self._judge.is_served:
            return
        if any(reply.error is None and unread is None for reply, unread in replies):
            self._opening.answered()
        for reply, unread in replies:
            if reply.error is not None:
                self._see_error(reply.error, transient=reply.transient)
            elif unread is not None and self._opening.failed(unread, refused=False):
                raise self._none_readable(f"first {self._opening.failures} replies")

    def _see_error(self, error: str, *, transient: bool) -> None:
        if about_length(error) and not transient:
            self._opening.passed()
        elif self._opening.failed(error, refused=True):
            raise JudgeError(
                f"judge '{self._judge.name}' has answered none of the first {self._opening.failures} requests "
                f"({error}); correct that and run again"
            )

    def require_readable(self, answered: int, about: str) -> None:
        """Raises JudgeError if none of the replies could be read."""
        if self._judge.is_served and answered and not self.readable and self._unread:
            raise self._none_readable(f"{answered} replies{about}")

    def _none_readable(self, which: str) -> JudgeError:
        return JudgeError(
            f"judge '{self._judge.name}': none of the {which} can be read ({self._unread}); no verdict is kept: "
            "correct that and run again, which asks again"
        )
