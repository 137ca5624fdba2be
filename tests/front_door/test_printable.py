"""The one place that makes text from outside fit to print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.printable import escaped, printable

HOSTILE = {
    "\x1b[2J\x1b[31mred": "\\x1b[2J\\x1b[31mred",
    "a\n::error::forged": "a :\\:error::forged",
    "a\r\nb\x0bc\x85d\u2028e": "a b c d e",
    "\x9b31m": "\\x9b31m",
    "\u202eabc\u2066": "\\u202eabc\\u2066",
    "a\x00b\x07\x08": "a\\x00b\\x07\\x08",
    "::set-output name=x::y": ":\\:set-output name=x::y",
    "##[error]bad": "#\\#[error]bad",
    "##vso[task.setvariable]": "#\\#vso[task.setvariable]",
    "::WARNING file=a::b": ":\\:WARNING file=a::b",
    "\ud800": "\\ud800",
    "\ufeffx\u200b": "\\ufeffx\\u200b",
}


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text(text: str) -> None:
    assert printable(text) == HOSTILE[text]


@pytest.mark.parametrize("text", ["std::vector<int> a::b", "## Heading", "naïve – 中文 ✓ 🙂", "[[A]] 100 %", "C:\\x1b"])
def test_ordinary_text_stays(text: str) -> None:
    assert printable(text) == text


def test_width_and_lines() -> None:
    assert printable("abcdef", 4) == "abc…"
    assert printable("abcd", 4) == "abcd"
    assert escaped("a\n\tb\x1b") == "a\n\tb\\x1b"


@given(st.text())
def test_a_text_is_one_line_that_a_terminal_only_shows(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert line.splitlines() == ([line] if line else [])
    assert printable(line) == line
    line.encode()
