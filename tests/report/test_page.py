"""The page: what it holds, that texts stay texts, and that the same board gives the same bytes."""

import base64
import gzip
import json
import re
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from harness.boards.read import read_board
from harness.cli.app import app
from harness.errors import DataError
from harness.report.page import page, write_page
from harness.report.page.data import embedded, packed
from harness.report.page.examples import board_examples
from tests.report.boards import NASTY, board_with_answers
from tests.report.html import read
from tests.sample_boards import four_rows


@given(st.text())
def test_any_text_survives_into_the_page_and_back(text: str) -> None:
    shown = embedded({"text": text})
    assert "</" not in shown
    assert "<!--" not in shown
    assert json.loads(shown) == {"text": text}
    assert json.loads(gzip.decompress(base64.b64decode(packed([text])))) == [text]


def test_nothing_that_a_model_wrote_is_markup(tmp_path: Path) -> None:
    board_with_answers(tmp_path)
    text = page(tmp_path)
    outside = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", text, flags=re.DOTALL)
    for nasty in NASTY:
        assert nasty not in outside
    assert "Results" in outside
    assert re.findall(r"<script(?! type=\"application/)", outside) == []
    shown = read(text)
    assert len([script for script in shown.all("script") if "type" not in script.attributes]) == 1
    assert shown.all("img") == []
    (title,) = shown.all("h1")
    assert title.text == read_board(tmp_path).name == "nasty </title><script>window.hacked = 1</script>"
    names = [head.text for table in shown.all("table") for head in table.all("th") if head.text.startswith("row 0")]
    assert len(names) > 3
    assert all(name.startswith("row 0 <b>bold</b>") for name in names)
    assert all(not head.all("b") for head in shown.all("th"))


def test_only_its_own_script_and_style_are_allowed(tmp_path: Path) -> None:
    import hashlib

    board_with_answers(tmp_path)
    text = page(tmp_path)
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
    assert policy.startswith("default-src 'none'; base-uri 'none';")
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        (own,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r'(src|href)="?(https?:)?//', text)
    assert " style=" not in text


@pytest.mark.slow
def test_the_same_board_gives_the_same_bytes(tmp_path: Path) -> None:
    board_with_answers(tmp_path)
    first = write_page(tmp_path).read_bytes()
    assert write_page(tmp_path / "board.json").read_bytes() == first


def test_a_board_without_answers_has_its_page(tmp_path: Path) -> None:
    from harness.report.write import write_board

    write_board(tmp_path, "x", four_rows())
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "index.html").read_text()
    assert "There are no answers beside this board" in text
    assert "not calibrated against any official judge" in text
    assert all(f'data-row="{row.id}"' in text for row in four_rows())


def test_what_is_no_board_is_told(tmp_path: Path) -> None:
    from harness.errors import DataError

    with pytest.raises(DataError, match="does not exist"):
        write_page(tmp_path / "none")


@pytest.mark.parametrize("odd", ["7", [], {"x": 1}, ["a"]])
@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("alpaca_eval/row-1/model_outputs.json", "output"),
        ("alpaca_eval/row-1/annotations.json", "preference"),
        ("alpaca_eval/row-1/annotations.json", "invalid"),
    ],
)
def test_answers_of_another_type_end_in_one_line(file: str, field: str, odd: object, tmp_path: Path) -> None:
    board_with_answers(tmp_path, rows=2)
    path = tmp_path / "data" / file
    rows = json.loads(path.read_text())
    rows[0][field] = 7 if odd == "7" and field != "preference" else odd
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"alpaca_eval can't be read") as refused:
        board_examples(tmp_path, read_board(tmp_path).entries)
    assert "\n" not in str(refused.value)
