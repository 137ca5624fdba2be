"""The one place that makes text from outside fit to print."""

import base64
import logging
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.printable import LineFormatter, escaped, masked, printable

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


def test_secrets_are_masked_in_the_forms_that_requests_have(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk/planted+0123456789"
    monkeypatch.setenv("MY_API_KEY", f"{key}\n")
    for form in (key, quote(key, safe=""), base64.b64encode(key.encode()).decode()):
        assert printable(f"<{form}>") == "<***>"
    monkeypatch.delenv("MY_API_KEY")
    assert masked(f"<{key}>") == f"<{key}>"
    assert masked(f"<{key}>", key) == "<***>"  # a key that isn't in the environment
    assert masked("dummy-key", "dummy") == "dummy-key"


def test_the_name_of_a_file_that_a_variable_leads_to_is_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path))
    monkeypatch.setenv("MY_TOKEN", "/planted-0123456789")  # begins like a path, and is none
    assert printable(f"{tmp_path}/x") == f"{tmp_path}/x"
    assert printable("</planted-0123456789>") == "<***>"


def test_a_record_s_traceback_and_stack_are_indented_below_its_line() -> None:
    try:
        raise ValueError("bad\n::error::forged\x1b")
    except ValueError as error:
        caught = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "said\n%s", ("two",), caught)
    record.stack_info = "Stack (most recent call last):\n  here\x1b"
    first, *rest = LineFormatter("%(levelname)s %(message)s").format(record).split("\n")
    assert first == "ERROR said two"
    assert all(line.startswith("    ") for line in rest)
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-4:] == [
        "    ValueError: bad",
        "    :\\:error::forged\\x1b",
        "    Stack (most recent call last):",
        "      here\\x1b",
    ]
