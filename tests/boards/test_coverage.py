"""When a new board has far fewer scored prompts than the one that it would replace."""

import pytest

from harness.boards.board import Board
from harness.boards.coverage import worse_coverage
from harness.boards.entry import Entry


def board(scored: int, unscored: int = 0, *, turns: int = 0, row: str = "dpo", group: str = "alpaca_eval") -> Board:
    values: dict[str, float | None] = {f"q{i}": 1.5 if i < scored else None for i in range(scored + unscored)}
    if turns:
        values = {f"{key}/{turn}": value for key, value in values.items() for turn in range(1, turns + 1)}
    return Board(name="b", generated=None, entries=(Entry(id=row, method="sdpo", outcomes={group: values}),))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (board(40), board(2)),
        (board(40), board(2, 38)),
        (board(40), board(35)),
        (board(40), board(0, 40)),
        (board(3), board(1)),
        (board(40, turns=2), board(30, 10, turns=2)),
        (board(40), board(40, group="mt_bench")),
        (board(200, group="heldout"), board(20, group="heldout")),
    ],
)
def test_far_fewer_scored_prompts_are_named(old: Board, new: Board) -> None:
    reason = worse_coverage(old, new)
    assert reason is not None
    assert "row 'dpo' has" in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (board(40), board(40)),
        (board(40), board(36, 4)),
        (board(40), board(805)),
        (board(2), board(1, 1)),
        (board(1), board(0, 1)),
        (board(40, 40), board(40)),
        (board(40), board(2, row="another")),
        (board(40, turns=2), board(40, turns=1)),
    ],
)
def test_about_as_many_or_another_row_may_replace(old: Board, new: Board) -> None:
    assert worse_coverage(old, new) is None
