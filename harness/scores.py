"""Scores of a reward model: what was scored is kept and never scored again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.judging import make_ask
from harness.protocols import Ready
from harness.types import Advance, Ask, Messages


class Scorer:
    """A `ScoreRows` of a reward model that its stage has made ready in `folder`. `parts`: those of the reward models
    that it is made from. `journals`: folder of the journals. `key`: of the stage that made it ready."""

    def __init__(
        self,
        model: Any,
        folder: Path,
        *,
        key: str,
        journals: Path,
        advance: Advance,
        parts: Sequence["Scorer"] = (),
    ) -> None:
        def ask(judge: Any) -> Ask:
            return make_ask(judge, journals / "verdicts.jsonl", concurrency=8, advance=lambda _: None)

        self._model = model
        self._ready = Ready(folder, advance, ask, tuple(parts))

    def __call__(self, rows: Sequence[tuple[Messages, str]]) -> list[float | None]:
        return list(self._model.score(rows, self._ready))
