"""Thoughts and answers: as models write them, as texts talk about them, and what holds of any text."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.models.templates.stripping import Openings, Thoughts
from harness.models.templates.thoughts import MARKERS, Marker, marking, opened_by, parted
from harness.types import Completion

HARMONY = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>"
WRITTEN = {
    "<think>\nHm.\n</think>\n\nParis.": "Paris.",
    "\n<think>Hm.</think>Paris.": "Paris.",
    "<think>\n\n</think>\n\nParis.": "Paris.",
    "Hm, Paris I think.\n</think>\n\nParis.": "Paris.",  # the prompt has opened it
    "Hm, Paris I think.</think>Paris.": "Paris.",
    "Hm. </think> Paris.": "Paris.",
    "</think>\n\nParis.": "Paris.",
    "<think>a</think>\n<think>b</think>Paris.": "Paris.",
    "Paris.\n<think>\nWhy that?\n</think>\n": "Paris.",
    "<think>a <think>b</think> c</think>Paris.": "Paris.",
    "<think>I could write <think> here.</think>Paris.": "Paris.",
    "<think>I must close it by </think> first.</think>Paris.": "Paris.",
    "<think>```\ncode\n</think>Paris.": "Paris.",
    "<think>Hm.</think>\n\n    an = indented(line)\n": "    an = indented(line)\n",
    "<think>Hm.</think>\n<answer>\nParis.\n</answer>": "Paris.",
    "<think>Hm.</think>Models write `<think>` and `</think>`.": "Models write `<think>` and `</think>`.",
    f"{HARMONY}Paris.": "Paris.",
    "<|channel|>final<|message|>Paris.": "Paris.",
    "<|channel|>analysis<|message|>Hm.<|start|>assistant<|channel|>final<|message|>Paris.": "Paris.",
    "analysisThe user asks.assistantfinalParis.": "Paris.",  # its special tokens were left out
    "<|channel>thought\nHm.<channel|>Paris.": "Paris.",
}
TALK = (
    "Paris.",
    " two  spaces \n\n",
    "",
    "Models emit </think> when they are done.",
    "Write `</think>` to close it.",
    'It ends with "</think>".',
    "Put the reasoning between <think> and </think> tags.",
    "<think> and </think> are tags.",
    "`<think>` opens a thought.",
    "The closing tag is </think>",
    "Use this:\n\n```xml\n<think>\nreasons\n</think>\nthe answer\n```\n\nThat is all.",
    "~~~\n</think>\n~~~\nends it",
    "- <think>: opens\n- </think>: closes",
    "An <|end|> token.",
    "analysis of variance compares means, as the assistant final said",
    "The <reasoning> element, then </reasoning>.",
)


@pytest.mark.parametrize(("text", "answer"), WRITTEN.items())
def test_the_answer_is_what_follows_the_thought(text: str, answer: str) -> None:
    found = parted(text)
    assert (found.answer, found.unfinished) == (answer, False)


@pytest.mark.parametrize("text", TALK)
def test_a_text_that_talks_about_markers_stays_as_it_is(text: str) -> None:
    assert parted(text) == (text, "", False)


@pytest.mark.parametrize("marker", MARKERS, ids=lambda m: m.opening)
def test_every_marker_opens_closes_and_is_cut(marker: Marker) -> None:
    assert parted(f"{marker.opening}secret{marker.close}Paris.").answer == "Paris."
    assert parted(f"{marker.opening}secret") == ("", "secret", True)
    opened = opened_by(f"user: question\nassistant: {marker.opening}")
    assert opened is not None
    assert parted(f"secret{opened.close}Paris.", opened=True).answer == "Paris."


def test_a_text_that_begins_inside_a_thought_and_does_not_leave_it_has_no_answer() -> None:
    assert parted("Hm, let me", opened=True) == ("", "Hm, let me", True)
    assert parted("I say `</think>` later.\n</think>\nParis.", opened=True).answer == "Paris."


_pieces = st.sampled_from([part for m in MARKERS for part in (m.opening, m.closing)] + ["\n", " ", "`", "```\n", "a."])
_texts = st.lists(_pieces | st.text(string.printable, max_size=4), max_size=12).map("".join)


@given(_texts, st.booleans())
@example("<<think></think>think>x</think>y", False)
def test_an_answer_has_no_thought(text: str, opened: bool) -> None:
    """So it stays as it is when it is read again, and begins with no closing marker."""
    answer = parted(text, opened=opened).answer
    assert parted(answer).answer == answer
    assert not answer.lstrip().startswith(tuple(m.closing for m in MARKERS if m.closing != "<|end|>"))


@given(st.text(st.characters(exclude_characters="<[◁")))
def test_a_text_without_markers_is_its_answer(text: str) -> None:
    assert text.startswith("analysis") or parted(text) == (text, "", False)


def test_which_special_tokens_are_kept() -> None:
    assert marking(["<|im_end|>", "<think>", "</think>", "<pad>"]) == {"<think>", "</think>"}
    assert marking(["<|end|>", "<|user|>", "<|assistant|>"]) == set()  # Phi's turns end so
    assert marking(["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"]) == {
        *("<|start|>", "<|end|>", "<|message|>", "<|channel|>")
    }


def _text(text: str, reason: str = "stop") -> Completion:
    return Completion(text=text, finish_reason=reason, tokens=3)


def test_a_servers_template_that_opens_thoughts_is_noticed() -> None:
    """A cut text without any marker is then a thought, but not of a server that doesn't think."""
    texts = [_text("Hm.\n</think>\n\nYes."), _text("So.\n</think>\n\nNo."), _text("Let me see", "length")]
    counts = Thoughts("strip")
    seen = Openings.of(texts[:1]) + Openings.of(texts[1:])
    assert [counts.answer(seen.marked(text)) for text in texts] == ["Yes.", "No.", ""]
    expected = {"removed": True, "texts": 3, "with_thoughts": 3, "unfinished": 1, "closed": 0}
    assert counts.report == {"thoughts": expected}
    plain = [_text("Yes."), _text("No."), _text("Let me see", "length")]
    assert [Openings.of(plain).marked(text) for text in plain] == plain
