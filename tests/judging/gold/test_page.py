"""The page of `harness label` in a real browser: keys, buttons, what it saves, and what it keeps."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from tests.judging.gold.helpers import board, key_of
from tests.report.boards import NASTY
from tests.report.test_browser import Opened, browser, pytestmark  # noqa: F401


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = board(tmp_path_factory.mktemp("label") / "board")
    for benchmark, page in (("alpaca_eval", "pairs.html"), ("mt_bench", "turns.html")):
        arguments = ["label", str(made), "--pairs", "8", "--benchmark", benchmark, "--out", str(made.parent / page)]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        key = key_of(made)
        (made / "gold" / f"{key['id']}.key.json").rename(made.parent / f"{page}.key")
    return made.parent


@pytest.fixture
def opened(browser: Any, folder: Path) -> Iterator[Opened]:  # noqa: F811
    made = Opened(browser, folder / "pairs.html", ".answers", viewport={"width": 1280, "height": 900})
    yield made
    assert made.errors == []
    assert [url for url in made.requests if not url.startswith(("data:", "blob:"))] == [
        (folder / "pairs.html").as_uri()
    ]
    assert made.page.evaluate("window.hacked") is None
    made.page.context.close()


def saved_by(page: Any, button: str = "#save") -> tuple[str, dict[str, Any]]:
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, json.loads(Path(download.value.path()).read_text())


def test_keys_and_buttons(opened: Opened, folder: Path) -> None:
    page, key = opened.page, json.loads((folder / "pairs.html.key").read_text())
    page.fill("#who", "Ada <b> L")
    page.locator("#pair").focus()
    for pressed in ("a", "d", "t", "1", "3", "s"):
        page.keyboard.press(pressed)
    page.click("#left")
    assert page.inner_text("#count") == "pair 8 of 24"
    page.keyboard.press("b")
    assert page.get_attribute("#left", "aria-pressed") == "true"
    page.click("#right")
    assert page.inner_text("#count") == "pair 8 of 24"
    name, file = saved_by(page)
    assert name == f"labels-{key['id']}-Ada-b-L.json"
    chosen = ["left", "right", "tie", "left", "right", "skip", "right"]
    assert file["labels"] == {str(i): choice for i, choice in enumerate(chosen, start=1)}
    assert (file["harness_labels"], file["page"], file["annotator"]) == (1, key["id"], "Ada <b> L")
    page.fill("#who", "adt")  # letters, and no choices, in a field
    assert page.inner_text("#count") == "pair 8 of 24"


def test_what_was_chosen_outlives_the_tab(opened: Opened, folder: Path) -> None:
    page = opened.page
    for _ in range(24):
        page.keyboard.press("t")
    assert page.is_visible("#done")
    assert page.is_hidden("#pair")
    page.reload()
    page.wait_for_selector("#done")
    opened.requests.pop()
    _, file = saved_by(page, "#save-again")
    assert set(file["labels"].values()) == {"tie"}
    assert len(file["labels"]) == 24
    page.click("#back")
    assert page.inner_text("#count") == "pair 24 of 24"


def test_answers_are_text(opened: Opened) -> None:
    page, seen = opened.page, ""
    for _ in range(24):
        seen += page.inner_text("#pair")
        page.keyboard.press("s")
    for nasty in NASTY:
        assert nasty in seen
    assert page.query_selector("main script, main img, main b, main a") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_conversation_on_a_phone(browser: Any, folder: Path, scheme: str) -> None:  # noqa: F811
    size = {"width": 390, "height": 844}
    phone = Opened(browser, folder / "turns.html", ".answers", viewport=size, color_scheme=scheme)
    page = phone.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert phone.texts(".ask h3") == ["Prompt, turn 1 of 2", "Prompt, turn 2 of 2"]
    assert phone.texts(".answers h3") == [f"Answer {s}, turn {t} of 2" for t in (1, 2) for s in "AB"]
    tall = page.evaluate("[...document.querySelectorAll('footer button')].map((b) => b.getBoundingClientRect())")
    assert all(box["left"] >= 0 and box["right"] <= 390 and box["bottom"] <= 844 for box in tall)
    colours = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.text')).color]"
    )
    before = page.evaluate(colours)
    page.click("#theme")
    assert all(a != b for a, b in zip(before, page.evaluate(colours), strict=True))
    assert phone.errors == []
    page.context.close()
