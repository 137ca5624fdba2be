"""Gates in tiers: a file that says what must hold, what should, and where an inconclusive test is good enough.

tiers:
  - {name: must hold, metrics: [humaneval.pass_at_1, lm_eval.gsm8k], margin: 3}
  - {name: should hold, metrics: tax, margin: 5, inconclusive: allow}
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.boards.read import choose_row, read_board
from harness.errors import DataError, quoted
from harness.figures import Margin
from harness.gate.ask import RowSource, ask, board_of
from harness.gate.check import INCONCLUSIVE, PASS, Result
from harness.gate.margins import Check
from harness.recipe.load import first_error
from harness.recipe.reading.document import Document
from harness.recipe.reading.problems import problems_of
from harness.settings import Settings

TAX = "tax"
"""All figures of the board's tax section, in place of a list of metrics."""


class Tier(Settings):
    """Figures with one rule. `margin`: how much worse is acceptable, as in a gate; None: as each figure declares.
    `inconclusive`: whether a test that settles nothing lets a row pass."""

    name: str = Field(min_length=1, max_length=100)
    metrics: Literal["tax"] | tuple[str, ...] = Field(min_length=1)
    margin: Margin = None
    alpha: float = Field(0.05, gt=0, lt=0.5)
    inconclusive: Literal["fail", "allow"] = "fail"


class Policy(Settings):
    """The tiers of a policy file, each with its own name."""

    tiers: tuple[Tier, ...] = Field(min_length=1)

    @field_validator("tiers")
    @classmethod
    def _named_apart(cls, value: tuple[Tier, ...]) -> tuple[Tier, ...]:
        names = [tier.name for tier in value]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two tiers are called {quoted(repeated[0])}; give each its own name")
        return value


def read_policy(path: Path) -> Policy:
    """A policy file (YAML). Raises HarnessError of one line with the file's line."""
    document = Document.read(path)
    fields = document.fields()
    try:
        return Policy.model_validate(fields)
    except ValidationError as error:
        raise first_error(document, problems_of(document, error.errors(include_url=False), Policy)) from None


def run_policy(
    board: RowSource,
    policy: Policy,
    baseline: RowSource | None,
    row: str | None,
    baseline_row: str | None,
    *,
    allow: bool = False,
) -> list[Result]:
    """One result per figure of each tier, its reason headed by the tier's name. A test that settles nothing passes in a
    tier that allows it, and says so. `allow`: as in a gate. Raises HarnessError for a row that doesn't exist, and for
    the tier `tax` of a row without such figures."""
    opened = read_board(Path(board)) if isinstance(board, str | Path) else board_of(board)
    entry = choose_row(opened, row)
    results = []
    for tier in policy.tiers:
        for metric in _metrics(tier, entry):
            check = Check(metric=metric, margin=tier.margin, alpha=tier.alpha, allow=allow)
            result = ask(opened, baseline, check, entry.id, baseline_row)
            said = f"{tier.name}: {result.reason}"
            if result.code == INCONCLUSIVE and tier.inconclusive == "allow":
                result = result._replace(code=PASS)
                said += "; this tier allows that"
            results.append(result._replace(reason=said))
    return results


def _metrics(tier: Tier, entry: Entry) -> tuple[str, ...]:
    if tier.metrics != TAX:
        return tuple(dict.fromkeys(tier.metrics))
    figures = tuple(f.metric for f in Figures([entry]).gated if f.tax and f.metric in entry.metrics)
    if not figures:
        raise DataError(
            f"row {quoted(entry.id)} has no figures of the tax section, which tier {quoted(tier.name)} is about; "
            "evaluate it on lm_eval, ifbench or humaneval"
        )
    return figures
