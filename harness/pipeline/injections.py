"""Answers that speak to the judge instead of the user: prompt injections, by words and by shapes.

A judge can be addressed in any language, in any markup and behind any disguise, so nothing here is complete. Texts are
searched as they are and without disguise: invisible characters, letters of other scripts, styled letters, digits for
letters, letters set apart, base64. Every step is linear in the length of the text.
"""

import base64
import binascii
import html
import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from harness.files import asset
from harness.outside_yaml import parse_yaml

AROUND = 200
"""Characters on either side that count as the same sentence, if it is a long one."""
MOST_DECODED = 20
"""The number of base64 runs in a text that are decoded."""


class _Rule(NamedTuple):
    """What a text does if it has `first`, with `second` beside it if there is one: names of expressions in the file."""

    kind: str
    first: str
    second: str | None = None


_SHAPES = (_Rule("plays the frame", "frame"), _Rule("rates itself", "verdict"))
_SENTENCES = (
    _Rule("overrides instructions", "override"),
    _Rule("names the judge", "judge"),
    _Rule("orders the verdict", "orders"),
    _Rule("asks for a rating", "demand"),
    _Rule("asks for a rating", "candidate", "rating"),
    _Rule("names the judge", "role", "praise"),
    _Rule("names the judge", "role", "candidate"),
    _Rule("says which is better", "rival"),
    _Rule("threatens or bribes", "stakes", "condition"),
)
KINDS = tuple(dict.fromkeys(rule.kind for rule in (*_SHAPES, *_SENTENCES)))
"""What texts do that speak to the judge."""

_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{24,}={0,2}")
_SET_APART = re.compile(r"(?<!\w)(?:\w[ .·_-]{1,2}){3,}\w(?!\w)")
_HYPHEN = re.compile(r"(?<=[a-z])-(?=[a-z])")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|%([2-7][0-9a-fA-F])")
_MIXED_WORD = re.compile(r"(?<!\w)(?=[a-z]{0,20}[0-9@$])(?=[0-9@$]{0,20}[a-z])[a-z0-9@$]{3,30}(?!\w)")
_DIGITS_AS_LETTERS = str.maketrans("013457@$", "oieastas")
_LOOKALIKES = str.maketrans(
    "аеорсухіјѕԁһӏкмтвнАВЕКМНОРСТУХІЈЅοαεικνρτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧɑɡıⅼᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ",
    "aeopcyxijsdhlkmtbhABEKMHOPCTYXIJSoaeikvptuxABEZHIKMNOPTYXagilabcdefghijklmnoprstuvwyz",
)
_ENDS = re.compile(r"[.!?…。！？;\n।؟]+")
_PUNCTUATION = re.compile(r"[^\w\n\u0300-\u036f\u0590-\u05ff\u0610-\u065f\u0900-\u0dff\u0e00-\u0e7f/$]+")
_LAST_LATIN = "\u024f"
"""The last letter of Unicode's Latin blocks before its others."""
_PART = re.compile("<([a-z_]+)>")

Expressions = Mapping[str, re.Pattern[str]]


class _Expressions(NamedTuple):
    """`shapes`, `english` and `others`: expressions by name. `latin`, `other_scripts`: what every finding in a language
    begins with, for the languages of that script: a text without it is searched no further."""

    shapes: Expressions
    english: Expressions
    others: tuple[Expressions, ...]
    latin: re.Pattern[str]
    other_scripts: re.Pattern[str]


@cache
def _expressions() -> _Expressions:
    content = parse_yaml(unicodedata.normalize("NFKC", asset("injections.yaml").read_text(encoding="utf-8")))
    lines = [
        {name: _alternatives(field, group.get("parts", {})) for name, field in group.items() if name != "parts"}
        for group in content.values()
    ]
    shapes, english, *others = ({name: _pattern(field) for name, field in group.items()} for group in lines)
    first = {rule.first for rule in _SENTENCES}
    beginnings = [line for group in lines[2:] for name, field in group.items() if name in first for line in field]
    latin = [line for line in beginnings if max(line) <= _LAST_LATIN]
    other_scripts = [line for line in beginnings if max(line) > _LAST_LATIN]
    return _Expressions(shapes, english, tuple(others), _pattern(latin), _pattern(other_scripts))


def _alternatives(lines: str, parts: Mapping[str, str]) -> list[str]:
    def filled_in(text: str) -> str:
        return _PART.sub(lambda match: f"(?:{filled_in(parts[match[1]])})", text.strip("\n").replace("\n", "|"))

    return [filled_in(line) for line in lines.splitlines()]


def _pattern(alternatives: Sequence[str]) -> re.Pattern[str]:
    # One common word boundary saves most of the time: inside of words nothing else is tried.
    words = "|".join(a.removeprefix(r"\b") for a in alternatives if a.startswith(r"\b"))
    others = [a for a in alternatives if not a.startswith(r"\b")]
    return re.compile("|".join([*([rf"\b(?:{words})"] if words else []), *others]), re.MULTILINE)


def kind_of(text: str) -> str | None:
    """What a text does that speaks to the judge (one of KINDS); None if it doesn't seem to."""
    return next(itertools.chain(*(_kinds(form, languages) for form, languages in _forms(text))), None)


def _forms(text: str) -> Iterator[tuple[str, bool]]:
    """(a text as it is read, or what it hides; whether to search it in all languages)."""
    plain = _readable(text)
    yield plain, True
    latin = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    latin = latin.translate(_LOOKALIKES)
    if latin != plain:
        yield latin, False
    joined = _HYPHEN.sub("", _SET_APART.sub(lambda match: re.sub(r"[\W_]", "", match[0]), latin))
    letters = _MIXED_WORD.sub(lambda match: match[0].translate(_DIGITS_AS_LETTERS), joined.casefold())
    if joined != latin:
        yield joined, False
    if letters != joined.casefold():
        yield letters, False
    for match in itertools.islice(_BASE64.finditer(text), MOST_DECODED):
        if decoded := _decoded(match[0]):
            yield _readable(decoded), True


def _readable(text: str) -> str:
    """A text without invisible characters, entities and styled letters."""
    text = _ESCAPED.sub(lambda match: chr(int(match[1] or match[2], 16)), html.unescape(text))
    text = unicodedata.normalize("NFKC", text)
    if text.isascii():
        return text
    # Tag characters are invisible copies of ASCII.
    shown = (chr(ord(c) - 0xE0000) if "\U000e0020" <= c <= "\U000e007e" else c for c in text)
    return "".join(c for c in shown if unicodedata.category(c) != "Cf")


def _decoded(run: str) -> str | None:
    try:
        text = base64.b64decode(run + "=" * (-len(run) % 4), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    return text if text.isprintable() or " " in text else None


def _kinds(text: str, all_languages: bool) -> Iterator[str]:
    words = _expressions()
    text = text.casefold()
    yield from (rule.kind for rule in _SHAPES if words.shapes[rule.first].search(text))
    # A line for each sentence, of words with a space for punctuation.
    text = _PUNCTUATION.sub(" ", _ENDS.sub("\n", text))
    yield from (rule.kind for rule in _SENTENCES if _applies(rule, words.english, text))
    beginnings = (words.latin, *([words.other_scripts] if max(text, default="") > _LAST_LATIN else []))
    if all_languages and any(pattern.search(text) for pattern in beginnings):
        yield from (rule.kind for other in words.others for rule in _SENTENCES if _applies(rule, other, text))


def _applies(rule: _Rule, words: Expressions, text: str) -> bool:
    if rule.first not in words:
        return False
    if rule.second is None:
        return words[rule.first].search(text) is not None
    return rule.second in words and _beside(text, words[rule.first], words[rule.second])


def _beside(text: str, first: re.Pattern[str], second: re.Pattern[str]) -> bool:
    """Whether both are in one sentence, AROUND characters from each other at most."""
    for match in first.finditer(text):
        start, end = max(0, match.start() - AROUND), min(len(text), match.end() + AROUND)
        start = text.rfind("\n", start, match.start()) + 1 or start
        line_end = text.find("\n", match.end(), end)
        if second.search(text, start, end if line_end < 0 else line_end):
            return True
    return False
