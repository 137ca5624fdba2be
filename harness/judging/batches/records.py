"""Account of batches: what was submitted, where, and how it ended, on disk before anything is sent.

What a batch asks is written before it is sent, and its id as soon as the server has named it. A batch without an id, of
a run that was killed in between, is looked for on the server, by a token in its metadata.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.engine.journal import Journal
from harness.servers.batches.batching import Batching, Refused
from harness.types import Record


class Submission(Record):
    """What is known of a batch: first `keys` of the requests in it, in which `server` it is, when it was made (seconds
    since 1970) and what had been refused before; then, in records of their own, the `file`, the `batch` and how it
    `ended`."""

    keys: tuple[str, ...] = ()
    server: str = ""
    made: float = 0.0
    refused: tuple[tuple[int, str], ...] = ()
    file: str | None = None
    batch: str | None = None
    ended: str | None = None


class Batch(NamedTuple):
    """A batch on the server. `worst`: dollars that are reserved for it; None if an earlier run has paid for it."""

    token: str
    batch: str
    keys: tuple[str, ...]
    made: float
    refused: tuple[Refused, ...]
    worst: float | None


class Records:
    """The batches of one judge, in a file beside its journal of replies. `tell` is told what the user should know."""

    def __init__(self, judge: Batching, journal: Path, tell: Callable[[str], None]) -> None:
        self._judge = judge
        self._journal = Journal(journal.with_suffix(".batches.jsonl"), Submission, column="batch")
        self._tell = tell

    def planned(self, token: str, keys: tuple[str, ...], made: float, refused: tuple[Refused, ...]) -> None:
        """A batch is about to be submitted."""
        self._journal.append([(token, Submission(keys=keys, server=self._judge.server, made=made, refused=refused))])

    def sent(self, token: str, file: str) -> None:
        """Its file is on the server."""
        self._journal.append([(f"{token}/file", Submission(file=file))])

    def named(self, token: str, batch: str) -> None:
        """It is under way."""
        self._journal.append([(f"{token}/batch", Submission(batch=batch))])

    def ended(self, token: str, how: str) -> None:
        """Nothing more is expected of it."""
        self._journal.append([(f"{token}/ended", Submission(ended=how))])

    def found(self, wanted: Collection[str]) -> Iterator[Batch]:
        """The batches of earlier runs that hold some of these requests. Raises the judge's error."""
        records = dict(self._journal.rows())
        for token, about in records.items():
            if f"{token}/ended" in records or not any(key in wanted for key in about.keys):
                continue
            if (name := self._name_of(token, about, records)) is None:
                self.ended(token, "not submitted")
            elif about.server != self._judge.server and self._judge.state(name) is None:
                self._tell(f"batch {name} is not known at this base_url; its requests are asked again")
            else:
                since = time.strftime("%Y-%m-%d %H:%M", time.localtime(about.made))
                self._tell(f"batch {name} of {len(about.keys):,} requests was submitted at {since}: going on with it")
                refused = tuple(Refused(*pair) for pair in about.refused)
                yield Batch(token, name, about.keys, about.made, refused, None)

    def _name_of(self, token: str, about: Submission, records: Mapping[str, Submission]) -> str | None:
        """A batch's id; None if it was not submitted. The run may have been killed just after it was."""
        if (known := records.get(f"{token}/batch")) is not None:
            return known.batch
        if (file := records.get(f"{token}/file")) is None:
            return None
        listed, name = self._judge.find(file.file, token)
        if name is not None:
            self.named(token, name)
        elif not listed:
            count = f"{len(about.keys):,} requests"
            self._tell(
                f"a run was stopped while it submitted {count}, and the server lists no batches: submitted again"
            )
        return name
