"""`harness label`: a page that tells nobody whose answers it shows, and what is made of what people saved."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.boards.gold.verdicts import read_verdicts
from harness.boards.read import read_board
from harness.cli.app import app
from harness.cli.endings import as_exit_code
from tests.judging.gold.helpers import ROW, board, key_of, saved


def lines(*arguments: str | Path) -> list[str]:
    done = CliRunner().invoke(app, ["label", *map(str, arguments)], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.exception
    return done.output.splitlines()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    error = CliRunner().invoke(app, ["label", *map(str, arguments)]).exception
    assert error is not None
    assert as_exit_code(error) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    return printed


def pairs_of(page: Path) -> list[dict[str, Any]]:
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert data is not None
    return json.loads(data[1])["pairs"]  # type: ignore[no-any-return]


def test_the_page_tells_nobody_whose_answers_it_shows(tmp_path: Path) -> None:
    folder, page = board(tmp_path / "board"), tmp_path / "page.html"
    lines(folder, "--pairs", "20", "--out", page)
    text, key = page.read_text(), key_of(folder)
    for secret in (
        "row-1",
        "row-2",
        "bold",
        "nasty",
        "The judge says",
        "fell silent",
        "preference",
        key["items"][0]["answers"],
    ):
        assert secret not in text
    pairs = pairs_of(page)
    assert len(pairs) == 60
    assert all(set(pair) == {"n", "turns", "left", "right"} for pair in pairs)
    sides = Counter(item["row_is"] for item in key["items"])
    assert min(sides["left"], sides["right"]) >= 10  # the chance of fewer of 60 is below 1e-7
    prompts = {row: [item["prompt"] for item in key["items"] if item["row"] == row] for row in key["rows"]}
    assert len({frozenset(drawn) for drawn in prompts.values()}) == 1
    assert [item["row"] for item in key["items"]] != sorted(item["row"] for item in key["items"])


def test_a_larger_draw_contains_the_smaller(tmp_path: Path) -> None:
    drawn = []
    for seed, count in (("3", "8"), ("3", "20"), ("4", "8")):
        folder = board(tmp_path / f"{seed}-{count}")
        lines(folder, "--pairs", count, "--seed", seed, "--rows", ROW)
        drawn.append({item["prompt"] for item in key_of(folder)["items"]})
    assert drawn[0] < drawn[1]
    assert drawn[0] != drawn[2]


def test_people_correct_the_judge(tmp_path: Path) -> None:
    """Somebody who agrees with the judge on all but a few prompts."""
    folder = board(tmp_path / "board")
    outcomes = read_board(folder).entries[1].outcomes["alpaca_eval"]
    lines(folder, "--pairs", "26", "--rows", ROW)
    ada = saved(folder, tmp_path / "ada.json", lambda item: (outcomes[item["prompt"]] or 1) > 1.5)
    printed = lines(folder, "--read", ada)
    row = read_board(folder).entries[1]
    gold, judge = row.metrics["alpaca_eval.gold_win_rate"], row.metrics["alpaca_eval.win_rate"]
    assert gold.n == 26
    assert gold.ci95 is not None
    facts = row.provenance.gold["alpaca_eval"]
    assert facts["labels"] == 26
    assert facts["prompts"] == 32
    assert facts["corrected"]["value"] == gold.value
    assert abs((gold.value or 0) - (judge.value or 0)) < 15
    assert any("26 labels are worth" in line and "saved" in line for line in printed)
    assert "gold" in (folder / "board.md").read_text()
    (path,) = (folder / "gold").glob("*.jsonl")
    verdicts = read_verdicts(path)
    assert {v.value for v in verdicts} <= {1.0, 1.5, 2.0}
    assert {v.by for v in verdicts} == {"people"}
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    lines(folder, "--read", ada)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_several_people(tmp_path: Path) -> None:
    folder = board(tmp_path / "board")
    lines(folder, "--pairs", "24", "--rows", ROW)
    ada = saved(folder, tmp_path / "ada.json", lambda item: item["number"] % 2 == 0)
    bob = saved(
        folder, tmp_path / "bob.json", lambda item: "skip" if item["number"] == 1 else item["number"] % 4 == 0, "bob"
    )
    printed = lines(folder, "--read", ada, "--read", bob)
    # On pairs 2 to 24: both like the row on 6, the other on 11, and disagree on 6.
    assert printed[0] == "ada and bob: 17 of 23 pairs alike, Cohen's kappa 0.49"
    (path,) = (folder / "gold").glob("*.jsonl")
    by_labels = {tuple(sorted(v.labels.items())): v.value for v in read_verdicts(path)}
    assert by_labels[("ada", "row"), ("bob", "other")] == 1.5
    assert by_labels[("ada", "row"), ("bob", "row")] == 2.0
    assert by_labels[("ada", "other"), ("bob", "skip")] == 1.0


def test_a_judge_that_is_no_help(tmp_path: Path) -> None:
    folder = board(tmp_path / "board")
    lines(folder, "--pairs", "30", "--rows", ROW)
    path = saved(folder, tmp_path / "a.json", lambda item: int(item["prompt"][:6], 16) % 2 == 0)
    printed = lines(folder, "--read", path)
    assert any("the judge adds nothing" in line and "the labels alone count" in line for line in printed)
    assert read_board(folder).entries[1].provenance.gold["alpaca_eval"]["corrected"] is None


def test_conversations_are_compared_with_another_rows(tmp_path: Path) -> None:
    folder, page = board(tmp_path / "board"), tmp_path / "page.html"
    lines(folder, "--benchmark", "mt_bench", "--rows", ROW, "--against", "row-2", "--pairs", "12", "--out", page)
    assert all(len(pair["turns"]) == len(pair["left"]) == len(pair["right"]) == 2 for pair in pairs_of(page))
    printed = lines(folder, "--read", saved(folder, tmp_path / "a.json", lambda item: None))
    assert any(line.split()[:3] == ["row-1", "over", "row-2"] and "50.0" in line for line in printed)
    assert "mt_bench.gold_score" not in read_board(folder).entries[1].metrics


def test_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, other = board(tmp_path / "board"), board(tmp_path / "other")
    assert "no row 'row-9'" in refused(capsys, folder, "--rows", "row-9")
    assert "'mt_bemch'; did you mean 'mt_bench'" in refused(capsys, folder, "--benchmark", "mt_bemch")
    lines(folder, "--pairs", "8", "--rows", ROW)
    good = saved(folder, tmp_path / "good.json", lambda item: True)
    assert "was not written for" in refused(capsys, other, "--read", good)
    assert "by 'ada'" in refused(capsys, folder, "--read", good, "--read", good)
    assert CliRunner().invoke(app, ["label", str(folder), "--read", str(good), "--rows", ROW]).exit_code == 2
    torn = tmp_path / "torn.json"
    torn.write_text(good.read_text()[:-20])
    assert "torn.json can't be read" in refused(capsys, folder, "--read", torn)
    for changes, named in (
        ({"harness_labels": 2}, "harness_labels"),
        ({"labels": {"1": "up"}}, "labels.1"),
        ({"labels": {"99": "tie"}}, "pair '99' is not on page"),
        ({"page": "../../etc"}, "page"),
        ({"more": 1}, "more"),
        ({"labels": {}}, "no pair has a verdict"),
        ({"labels": {"1": "skip", "2": "skip"}}, "no pair has a verdict"),
    ):
        path = saved(folder, tmp_path / "bad.json", lambda item: True, **changes)
        assert named in refused(capsys, folder, "--read", path)
    answers = folder / "data" / "alpaca_eval" / ROW / "model_outputs.json"
    answers.write_text(answers.read_text().replace("Answer 1 to", "Another answer to"))
    assert "have changed since page" in refused(capsys, folder, "--read", good)
    assert not list((folder / "gold").glob("*.jsonl"))


def test_a_board_without_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = Path(__file__).parents[3] / "leaderboards" / "quickstart"
    assert "has no answers beside it" in refused(capsys, bare)
