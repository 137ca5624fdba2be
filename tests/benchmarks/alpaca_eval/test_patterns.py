"""An evaluator's regular expressions: as the package reads them, and within a second whatever they are."""

import time

import pytest

from harness.benchmarks.alpaca_eval.patterns import bounded_patterns, parse_by_patterns

CHOICES = {1: r"(?:^|\n) ?Output \(a\)", 2: r"(?:^|\n) ?Output \(b\)"}


@pytest.mark.parametrize(
    "reply",
    ["Output (a)", "Output (b) is better.\nOutput (a)", "neither", "x\n Output (b)", "Output (a)Output (b)", "\n\n"],
)
def test_the_same_as_the_package(reply: str) -> None:
    from alpaca_eval import completion_parsers

    assert parse_by_patterns(reply, CHOICES) == completion_parsers.regex_parser(reply, dict(CHOICES))


def test_a_search_that_would_take_years_is_given_up() -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"take more than 0\.1 s on this reply"):
        parse_by_patterns("a" * 60 + "?", {1: r"(?:a|aa)+\b!$"}, seconds=0.1)
    for pattern in (r"(a+)+$", r"(x+x+)+y", r"^(([a-z])+.)+[A-Z]([a-z])+$"):
        assert parse_by_patterns("ax" * 30 + "!", {1: pattern}) == []
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("pattern", "reply", "said"),
    [("x*", "yyy", "matches an empty text"), ("(", "yyy", "is invalid"), ("a", "", "the reply is empty")],
)
def test_patterns_and_replies_without_a_verdict(pattern: str, reply: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_by_patterns(reply, {1: pattern})


def test_the_package_uses_it_also_within_its_own_pipelines() -> None:
    from alpaca_eval import completion_parsers

    original = completion_parsers.regex_parser
    with bounded_patterns():
        parsers = {"regex_parser": {"outputs_to_match": {1: "x*"}}}
        with pytest.raises(ValueError, match="matches an empty text"):
            completion_parsers.pipeline_meta_parser("yyy", parsers)
    assert completion_parsers.regex_parser is original
