"""Where things stand on the page, in a real browser: above the fold, side by side, never one upon another."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.report.page import write_page
from harness.report.write import write_board
from tests.report.boards import board_with_answers, trained_rows
from tests.report.test_browser import Opened, browser, pytestmark  # noqa: F401

SCREENS = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
LONG = "a-method-with-a-name-much-longer-than-its-place-{}-and-then-settings-n-4-beta-0.1"

OVERLAPS = """() => {
  const texts = "figcaption, tbody th span, td.text, thead th, svg text, .axes, .legend li";
  const boxes = (figure) => [...figure.querySelectorAll(texts)].filter((e) => e.textContent.trim()).flatMap((e) => {
      const range = document.createRange();
      range.selectNodeContents(e);
      return [...range.getClientRects()].filter((r) => r.width > 1).map((r) => [e, r]);
    });
  const found = [];
  for (const figure of document.querySelectorAll("figure")) {
    const all = boxes(figure);
    for (let i = 0; i < all.length; i += 1) for (let j = i + 1; j < all.length; j += 1) {
      const [[one, a], [other, b]] = [all[i], all[j]];
      if (one === other || one.contains(other) || other.contains(one)) continue;
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 3) found.push([one.textContent, other.textContent]);
    }
  }
  return found;
}"""

OUTSIDE = """() => [...document.querySelectorAll("figure")].flatMap((figure) => {
  const place = figure.getBoundingClientRect();
  const drawn = "figcaption, tbody th span, td.text, .dots.one svg text, .dots.one .mark, .plane svg text, .legend li";
  return [...figure.querySelectorAll(drawn)].filter((e) => !e.closest(".scroll")).filter((e) => {
      const r = e.getBoundingClientRect();
      return r.width && (r.left < place.left - 1 || r.right > place.right + 1);
    }).map((e) => e.textContent || "mark");
})"""

NOT_IN_VIEW = """(selector) => [...document.querySelectorAll(selector)]
  .filter((e) => e.getBoundingClientRect().bottom > innerHeight).map((e) => e.textContent.trim().slice(0, 60))"""


def opened(browser: Any, folder: Path, names: Sequence[str], screen: str, **more: Any) -> Opened:  # noqa: F811
    write_board(folder, "x", trained_rows(names, **more))
    return Opened(browser, write_page(folder), ".firsts figure", viewport=SCREENS[screen])


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize(("count", "seeds"), [(2, 1), (7, 1), (20, 1), (3, 5)])
def test_no_label_lies_on_another(screen: str, count: int, seeds: int, browser: Any, tmp_path: Path) -> None:  # noqa: F811
    names = [LONG.format(i) for i in range(count)]
    made = opened(browser, tmp_path, names, screen, seeds=seeds, categories=True)
    assert made.page.locator("#charts .dots.several").count() >= 2
    assert made.page.evaluate(OVERLAPS) == []
    assert made.page.evaluate(OUTSIDE) == []
    width = made.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]
    assert made.errors == []
    made.page.context.close()


def test_labels_are_found_to_lie_on_each_other(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    """The test above can fail."""
    made = opened(browser, tmp_path, ["a", "b"], "desk")
    made.page.evaluate("""() => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(".dots tbody th span { position: absolute; top: 0; left: 0; }");
      document.adoptedStyleSheets = [sheet];
    }""")
    assert made.page.evaluate(OVERLAPS)
    made.page.context.close()


@pytest.mark.parametrize(("screen", "count"), [("desk", 2), ("desk", 7), ("desk", 20), ("phone", 2), ("phone", 4)])
def test_the_answer_and_its_charts_are_above_the_fold(screen: str, count: int, browser: Any, tmp_path: Path) -> None:  # noqa: F811
    made = opened(browser, tmp_path, [f"method-{i}" for i in range(count)], screen)
    assert made.page.evaluate(NOT_IN_VIEW, "#question, .statements li, .cautions li, .firsts figure") == []
    if screen == "desk":
        tops = made.page.evaluate(
            "[...document.querySelectorAll('.firsts figure')].map((e) => e.getBoundingClientRect().top)"
        )
        assert len(tops) == 2
        assert tops[0] == tops[1]  # side by side
    made.page.context.close()


def test_a_cut_table_shows_that_it_goes_on(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    board_with_answers(tmp_path)
    made = Opened(browser, write_page(tmp_path), viewport=SCREENS["phone"])
    page = made.page
    cut = page.locator("#rows .cut").first
    scroll = cut.locator(".scroll")
    page.wait_for_function("() => document.querySelector('#rows .cut').classList.contains('more')")
    shade = "getComputedStyle(document.querySelector('#rows .cut'), '::after').opacity"
    page.wait_for_function(f"() => {shade} === '1'")
    first = cut.locator("tbody th").first
    before = first.bounding_box()["x"]
    scroll.evaluate("e => { e.scrollLeft = e.scrollWidth; }")
    page.wait_for_function("() => !document.querySelector('#rows .cut').classList.contains('more')")
    page.wait_for_function(f"() => {shade} === '0'")
    assert first.bounding_box()["x"] == pytest.approx(before, abs=1)  # the first column stays
    assert cut.locator("thead th").first.bounding_box()["x"] == pytest.approx(before, abs=1)
    made.page.context.close()


def test_a_mark_says_its_value(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    made = opened(browser, tmp_path, ["a", "b"], "desk")
    mark = made.page.locator(".firsts .mark").first
    box = mark.locator("circle").bounding_box()
    title = made.page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y).closest('g').querySelector('title').textContent",
        [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2],
    )
    assert title.startswith("b against a: ")
    assert "60 prompts" in title
    made.page.context.close()


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """A board whose two rows' answers to the third prompt differ most, and in known words."""
    board_with_answers(tmp_path, rows=2)
    texts = ("The quick brown fox jumps over the lazy dog today.", "The quick red fox jumps over the lazy cat today.")
    for row, text in enumerate(texts):
        folder = next(p for i, p in enumerate(sorted((tmp_path / "data" / "alpaca_eval").iterdir())) if i == row)
        outputs = json.loads((folder / "model_outputs.json").read_text())
        verdicts = json.loads((folder / "annotations.json").read_text())
        outputs[2]["output"] = verdicts[2]["output_2"] = text
        verdicts[2]["preference"] = 2.0 if row else 1.0
        (folder / "model_outputs.json").write_text(json.dumps(outputs))
        (folder / "annotations.json").write_text(json.dumps(verdicts))
    return write_page(tmp_path)


def test_examples_begin_with_the_largest_difference_and_mark_it(edited: Path, browser: Any) -> None:  # noqa: F811
    made = Opened(browser, edited, viewport=SCREENS["desk"])
    answers = made.page.locator("#shown .answer > .said").all_text_contents()
    assert {"brown fox" in text for text in answers} == {True, False}
    marks = made.page.locator("#shown .answer mark").all_text_contents()
    assert sorted(marks) == ["brown", "cat", "dog", "red"]
    made.page.uncheck("#marks")
    made.page.wait_for_function("() => document.querySelectorAll('#shown mark').length === 0")
    assert made.page.locator("#shown .answer > .said").all_text_contents() == answers
    made.page.context.close()


def test_what_is_not_marked_is_in_both_answers(edited: Path, browser: Any) -> None:  # noqa: F811
    made = Opened(browser, edited, viewport=SCREENS["desk"])
    texts = [
        ("a b c d e f g", "x b c d e f z"),
        ("one two three four", "one two three four"),
        ("same words here and there", "here and there words same"),
        ("nothing is shared", "quite other words"),
        ("word " * 3000 + "end", "word " * 2900 + "stop"),
        ("", "empty"),
        ("\U0001f600 naïve café", "\U0001f600 naive café"),
    ]
    read = """([a, b]) => differing(a, b, true).map((p) => {
      const plain = [...p.childNodes].filter((n) => n.nodeName !== "MARK").map((n) => n.textContent).join(" ");
      return [p.textContent, plain.match(/[\\p{L}\\p{N}]+/gu) ?? []];
    })"""
    for first, second in texts:
        (whole_a, kept_a), (whole_b, kept_b) = made.page.evaluate(read, [first, second])
        assert (whole_a, whole_b) == (first, second)
        if first and second:
            assert set(kept_a) <= set(second.split())
            assert set(kept_b) <= set(first.split())
    made.page.context.close()
