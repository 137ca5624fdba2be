"""What boards say of judges that were measured: a judge at chance is told before everything else, everywhere."""

from pathlib import Path
from typing import Any

import pytest

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.read import read_board
from harness.claims.answer import answer
from harness.gate.ask import gate
from harness.report.notebook import results
from harness.report.page.render import write_page
from harness.report.write import write_board
from tests.report.boards import trained_rows
from tests.sample_boards import drawn

CALIBRATION = {"text": "its line", "official": "GPT-4 Turbo", "agreement": 51.2, "here": [47.0, 55.4], "pairs": 400}
EQUIVALENT = {"value": 12.34, "ci95": [3.21, 38.06], "systems": 6, "held": 5}


def rows(verdict: str, **more: Any) -> list[Entry]:
    about = {**CALIBRATION, "verdict": verdict, "siblings": 49.7, **more}
    return trained_rows(("dpo", "multi"), judge_calibration=about)


def written(folder: Path, entries: list[Entry]) -> Board:
    write_board(folder, "judged", entries)
    return read_board(folder)


def test_a_judge_at_chance_comes_before_everything(tmp_path: Path) -> None:
    board = written(tmp_path, rows("at_chance"))
    text = (tmp_path / "board.md").read_text()
    head, _, rest = text.partition("> [!CAUTION]")
    assert head.strip().startswith("# Leaderboard")
    assert "\n\n" not in head.strip()
    assert "**Judge at chance.**" in rest
    assert "agreement 51 %, 95 % CI 47 to 55, within a system; between siblings 50 %" in rest
    assert "its line" in rest
    shown = drawn(tmp_path, 100)
    assert "JUDGE AT CHANCE" in shown
    assert shown.index("JUDGE AT CHANCE") < shown.index("dpo")
    page = write_page(tmp_path).read_text()
    assert page.index('<p class="alarm" role="alert">') < page.index('<section id="answer"')
    assert results(board).count("Judge at chance.") == 1


@pytest.mark.parametrize(
    ("verdict", "title"),
    [("weak", "Weak judge."), ("rule", "A rule as judge."), ("uncalibrated", "Uncalibrated judge.")],
)
def test_a_weak_judge_and_an_uncalibrated_one_are_told_less_loudly(tmp_path: Path, verdict: str, title: str) -> None:
    written(tmp_path, rows(verdict))
    text = (tmp_path / "board.md").read_text()
    assert "[!CAUTION]" not in text
    assert f"> **{title}**" in text
    assert 'role="alert"' not in write_page(tmp_path).read_text()


def test_a_good_judge_needs_no_warning(tmp_path: Path) -> None:
    written(tmp_path, rows("informative"))
    assert "> **" not in (tmp_path / "board.md").read_text()


def test_the_answers_first_caution_is_the_judge(tmp_path: Path) -> None:
    board = written(tmp_path, rows("at_chance"))
    found = answer(board.entries)
    assert found is not None
    assert found.cautions[0].startswith("Judge: ")
    assert "no better than chance" in found.cautions[0]
    weak = answer(written(tmp_path / "weak", rows("weak")).entries)
    assert weak is not None
    assert any("longer answer wins" in caution for caution in weak.cautions)


def test_a_gate_says_it_whatever_it_finds(tmp_path: Path) -> None:
    board = written(tmp_path, rows("at_chance"))
    said = gate(board, row="multi", baseline_row="dpo").reason
    assert said.startswith("the judge is no better than chance (")
    assert "this says nothing about quality; " in said
    good = gate(written(tmp_path / "good", rows("informative")), row="multi", baseline_row="dpo")
    assert "chance" not in good.reason


def test_the_predicted_official_rate_stands_below_the_table(tmp_path: Path) -> None:
    written(tmp_path, rows("informative", equivalents={"alpaca_eval.win_rate": EQUIVALENT}))
    said = "dpo 12.3 % (3.2 to 38.1); multi 12.3 % (3.2 to 38.1). It rests on 6 systems"
    for text in (
        (tmp_path / "board.md").read_text(),
        " ".join(drawn(tmp_path, 200).split()),
        write_page(tmp_path).read_text(),
    ):
        assert "AlpacaEval-2 equivalent, 95 % prediction interval" in text
        assert said in " ".join(text.split())


def test_a_record_of_another_version_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    about = {"verdict": "at_chance", "agreement": 50, "later": {"x": 1}}
    board = written(tmp_path, trained_rows(("dpo", "multi"), judge_calibration=about))
    assert "dpo" in drawn(tmp_path, 100)
    assert board.entries[0].provenance.plain()["judge_calibration"] == about
    written(tmp_path, rows("of a later version"))
    assert "its line" in (tmp_path / "board.md").read_text()


def test_records_and_texts_are_both_read(tmp_path: Path) -> None:
    written(tmp_path, [trained_rows(("dpo",), judge_calibration="80 %, as older boards say")[0], rows("weak")[1]])
    assert "80 %, as older boards say" in (tmp_path / "board.md").read_text()
