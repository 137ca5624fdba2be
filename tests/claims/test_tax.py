"""What training has cost: changes against the base, one verdict a row, and the section on every form of a board."""

import random
from pathlib import Path
from typing import Any

import pytest

from harness.boards.catalog import Figures
from harness.boards.entry import Entry
from harness.claims.tax import tax
from harness.components import benchmark_class
from harness.report.page import write_page
from harness.report.write import write_board
from tests.sample_boards import drawn

POLICY = {"model": "m", "sha256": "0" * 64}


def row(name: str, coding: list[float | None], loose: list[float | None], **about: Any) -> Entry:
    """A row's outcomes on HumanEval, and on IFBench by its loose check."""
    outcomes: dict[str, dict[str, float | None]] = {
        "humaneval": {f"HumanEval-{i}": value for i, value in enumerate(coding)},
        "ifbench": {f"{i}/2": value for i, value in enumerate(loose)},
    }
    classes = [benchmark_class(benchmark) for benchmark in outcomes]
    metrics = {}
    for cls in classes:
        for figure in cls.figures:
            values = list(figure.pairing.values(outcomes[figure.benchmark]).values()) if figure.pairing else []
            scored = [v for v in values if v is not None]
            if values:
                mean = sum(scored) / len(scored) if scored else None
                metrics[figure.metric] = {"value": mean, "n": len(scored), "n_invalid": len(values) - len(scored)}
    training = {} if name == "base" else {"training": {"steps": 4}}
    return Entry.model_validate(
        {
            "id": name,
            "method": "base" if name == "base" else "mdpo_linear",
            "metrics": metrics,
            "outcomes": outcomes,
            "figures": [figure for cls in classes for figure in cls.figures],
            "provenance": {"policy": POLICY, "benchmarks": {n: {"name": n} for n in outcomes}, **training, **about},
        }
    )


def shares(n: int, right: float, seed: int = 0) -> list[float | None]:
    draws = random.Random(seed)
    return [float(draws.random() < right) for _ in range(n)]


def lost(values: list[float | None], count: int) -> list[float | None]:
    """The same with the first `count` right ones wrong."""
    right = [i for i, value in enumerate(values) if value == 1.0][:count]
    return [0.0 if i in right else value for i, value in enumerate(values)]


CODING, LOOSE = shares(400, 0.6), shares(400, 0.4, seed=1)
BASE = row("base", CODING, LOOSE)


def test_a_row_that_is_equal_has_lost_nothing() -> None:
    (found,) = tax([BASE, row("dpo", CODING, LOOSE)])
    assert [change.outcome for change in found.changes] == ["kept", "kept"]
    assert found.verdict == "no loss over 2 points on 2 of 2"
    assert found.signatures == []


def test_a_drop_is_named_with_its_interval() -> None:
    (found,) = tax([BASE, row("dpo", lost(CODING, 60), LOOSE)])
    assert [change.outcome for change in found.changes] == ["lost", "kept"]
    assert found.verdict.startswith("no loss over 2 points on 1 of 2; coding drop: −15.0 points (95 % CI −")
    assert found.verdict.endswith(", over 2 points")
    assert found.signatures == ["coding drop"]
    compared = found.changes[0].compared
    assert compared is not None
    assert compared.difference == pytest.approx(-15.0)


def test_a_small_drop_may_be_within_the_margin_and_a_few_prompts_tell_nothing() -> None:
    (small,) = tax([BASE, row("dpo", lost(CODING, 9), LOOSE)])
    assert [change.outcome for change in small.changes] == ["fell", "kept"]
    few = row("base", CODING[:20], LOOSE[:20]), row("dpo", lost(CODING[:20], 1), LOOSE[:20])
    (open_,) = tax(few)
    assert open_.verdict == "no loss over 2 points on 0 of 2; inconclusive: coding, instruction following"


def test_equal_rows_on_few_prompts_are_not_shown_to_be_equal() -> None:
    (found,) = tax([row("base", CODING[:5], LOOSE[:50]), row("dpo", CODING[:5], LOOSE[:50])])
    assert [change.outcome for change in found.changes] == ["open", "open"]


def test_what_is_not_scored_is_no_change() -> None:
    holes: list[float | None] = [None if i < 40 else value for i, value in enumerate(CODING)]
    (found,) = tax([BASE, row("dpo", holes, LOOSE)])
    assert found.changes[0].outcome == "open"
    assert found.changes[0].reason == "40 of 400 prompts not scored in both"


def test_rows_of_other_policies_and_systems_are_not_compared() -> None:
    other = row("dpo", CODING, LOOSE, policy={"model": "n"})
    assert tax([BASE, other]) == []
    assert tax([BASE]) == []
    assert tax([row("dpo", CODING, LOOSE)]) == []


def test_no_other_comparison_is_made_by_these_figures() -> None:
    assert [f.metric for f in Figures([BASE]).headlines] == []


def test_the_section_is_on_every_form_of_the_board(tmp_path: Path) -> None:
    write_board(tmp_path, "b", [BASE, row("dpo", lost(CODING, 60), LOOSE)])
    write_page(tmp_path)
    markdown, page = ((tmp_path / name).read_text(encoding="utf-8") for name in ("board.md", "index.html"))
    for text in (markdown, page, drawn(tmp_path, 100)):
        flat = " ".join(text.split())
        assert "What training has cost" in flat
        assert "no loss over 2 points on 1 of 2; coding drop" in flat
    assert "| dpo | base | −15.0 [" in " ".join(markdown.split())


def test_a_board_without_such_figures_has_no_section(tmp_path: Path) -> None:
    plain = Entry(id="a", method="base")
    write_board(tmp_path, "b", [plain])
    assert "What training has cost" not in (tmp_path / "board.md").read_text(encoding="utf-8")
