"""The page in a real browser: Debian's chromium, headless, without a network."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report.page import write_page
from tests.report.boards import NASTY, board_with_answers

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    board_with_answers(folder)
    return write_page(folder)


class Opened:
    """A page with what it complained of and what it asked for."""

    def __init__(self, browser: Any, path: Path, shows: str = "#shown .answer", **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("request", lambda r: self.requests.append(r.url))
        started = time.perf_counter()
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(shows)
        self.seconds = time.perf_counter() - started

    def texts(self, selector: str) -> list[str]:
        return [element.inner_text() for element in self.page.query_selector_all(selector)]


@pytest.fixture
def opened(browser: Any, written: Path) -> Iterator[Opened]:
    made = Opened(browser, written, viewport={"width": 1200, "height": 900})
    yield made
    assert made.errors == []
    assert [url for url in made.requests if not url.startswith("data:")] == [written.as_uri()]
    assert made.page.evaluate("window.hacked") is None
    made.page.context.close()


def rows(opened: Opened) -> list[str]:
    return [r.get_attribute("data-row") for r in opened.page.query_selector_all("table.sortable >> nth=0 >> tbody tr")]


def test_it_sorts_and_filters(opened: Opened) -> None:
    page = opened.page
    assert rows(opened) == ["row 0 <b>bold</b>", "row-1", "row-2"]
    table = page.locator("table.sortable").first
    head = table.locator("thead th").filter(has_text="AlpacaEval win rate")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = table.locator("tbody tr td[data-value]:nth-child(3)").evaluate_all(
        "e => e.map(c => Number(c.dataset.value))"
    )
    assert values == sorted(values, reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    page.fill("input.filter", "row-2")
    assert table.locator("tbody tr:visible").count() == 1


def test_two_answers_stand_side_by_side_as_text(opened: Opened) -> None:
    page = opened.page
    assert len(opened.texts("#shown .answer")) >= 2
    seen = ""
    for _ in range(20):
        seen += " ".join(page.locator("#shown").all_text_contents())
        page.keyboard.press("j")
        page.wait_for_timeout(30)
    for nasty in NASTY:
        assert nasty in seen
    assert page.query_selector("#shown script, #shown img, #shown b") is None
    heads = opened.texts("#shown h4")  # those that the answer compares
    assert heads[0] == "A: row-1"
    assert heads[1] == "B: row 0 <b>bold</b>"
    page.locator("#shown summary").first.click()
    assert "The judge says:" in page.locator("#shown details").first.inner_text()


def test_the_keyboard_goes_everywhere(opened: Opened) -> None:
    page = opened.page

    def chosen() -> str:
        return page.locator('#list li[aria-selected="true"]').get_attribute("data-id")

    first = chosen()
    page.keyboard.press("j")
    second = chosen()
    assert second != first
    page.keyboard.press("k")
    assert chosen() == first
    page.keyboard.press("s")
    page.wait_for_function("() => document.querySelector('#shown h4').textContent.startsWith('A: row 0')")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("j")  # a letter, and no command, in a field
    assert page.input_value("#search") == "j"
    page.fill("#search", "")
    page.focus("#list")
    before = chosen()
    page.keyboard.press("ArrowDown")
    after = chosen()
    assert after != before
    page.keyboard.press("ArrowUp")
    assert chosen() == before


def test_prompts_are_filtered_by_who_won(opened: Opened) -> None:
    page = opened.page
    whole = page.locator("#list li").count()
    page.select_option("#row-a", label="row 0 <b>bold</b>")
    page.select_option("#row-b", label="row-1")  # rows 0 and 1 never win the same prompt
    page.select_option("#show", "a")
    a = page.locator("#list li").count()
    page.select_option("#show", "b")
    b = page.locator("#list li").count()
    page.select_option("#show", "differ")
    assert page.locator("#list li").count() == a + b
    page.select_option("#show", "missing")
    assert page.locator("#list li").count() == whole - a - b == 2
    assert "not scored: the judge fell silent" in page.locator("#shown").inner_text()
    page.select_option("#show", "all")
    page.select_option("#category", "AlpacaEval")
    assert page.locator("#list li").count() < whole
    page.fill("#search", "no prompt has these words")
    assert "No prompt fits" in page.locator("#shown").inner_text()


def test_dark_and_light_and_a_phone(browser: Any, written: Path) -> None:
    phone = Opened(browser, written, viewport={"width": 390, "height": 844}, color_scheme="dark")
    width = phone.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]  # nothing sticks out
    colours = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('.dots svg text')).fill,"
        " getComputedStyle(document.querySelector('.mark')).color]"
    )
    dark = phone.page.evaluate(colours)
    phone.page.click("#theme")
    assert all(one != other for one, other in zip(phone.page.evaluate(colours), dark, strict=True))
    assert phone.errors == []
    phone.page.context.close()


@pytest.mark.slow
def test_ten_rows_of_885_prompts_open_at_once(browser: Any, tmp_path: Path, shared_data: Path) -> None:
    import json

    from tests.report.large import large_board

    large_board(tmp_path, shared_data)
    path = write_page(tmp_path)
    opened = Opened(browser, path, viewport={"width": 1200, "height": 900})
    print(json.dumps({"seconds": round(opened.seconds, 2), "megabytes": round(path.stat().st_size / 1e6, 1)}))
    assert opened.page.locator("#list li").count() == 885
    assert opened.seconds < 6  # under 2 on a machine that does nothing else
    assert opened.errors == []
    opened.page.context.close()
