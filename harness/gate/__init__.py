"""The regression gate: is a row worse than a baseline by more than a margin?

`ask` chooses the two rows, `check` has the tests and their exit codes, `margins` and `means` what is tested, `words`
what is said; `baseline` is `harness baseline promote`, `record` its file, `history` a drawing of it; `recipe` the gates
of a recipe; `pull_request` the recipe of a gate on a pull request; `ci` JUnit and Markdown.

    harness.gate("leaderboards/mine", "baseline.json", metric="mt_bench.score").code   # 0: not worse than the margin
"""

import sys
from types import ModuleType
from typing import Any

from harness.gate.ask import RowSource, gate
from harness.gate.check import Result


class _CallablePackage(ModuleType):
    """Makes the package callable: importing any part of it binds it to the name `harness.gate`, and `harness.gate(...)`
    must keep running a gate."""

    def __call__(self, board: RowSource, baseline: RowSource | None = None, **options: Any) -> Result:
        return gate(board, baseline, **options)

    __call__.__doc__ = gate.__doc__


sys.modules[__name__].__class__ = _CallablePackage
