"""`${NAME}` in a recipe: the value of an environment variable, in paths and addresses only.

A recipe may be a stranger's, and the user's variables may hold anything. So a variable's value goes into the name of a
file on this machine, or into the address of a server that the user's own variables name; never anywhere else, and never
from a variable that looks like a secret. What is recorded and shown is the text as written.
"""

import os
import re
from typing import Any

from harness.printable import holds_secret, is_secret, printable

_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}")
_PLACEHOLDER = "\x00"  # can't be in a recipe or in an environment variable
_OWN_HOST = re.compile(rf"(https?://)?{_PLACEHOLDER}(:([0-9]+|{_PLACEHOLDER}))?(/|$)", re.IGNORECASE)
_LOOPBACK = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])(:|/|$)", re.IGNORECASE)
_BEGINS_WITH_HOST = re.compile(r"https?://[^/:]", re.IGNORECASE)

Filled = dict[str, set[str]]
"""The texts with variables that a field has filled in, with what they became."""


class Variables:
    """A text of a recipe with variables. It is no `str`, so that every field refuses it but those that fill it in."""

    def __init__(self, written: str, filled: Filled) -> None:
        self.written = written
        self._filled = filled

    def __repr__(self) -> str:
        return f"Variables({self.written!r})"

    def path(self) -> str:
        """The text of a path. Raises ValueError for a variable that is not set or looks like a secret."""
        self._filled.setdefault(self.written, set())
        return _VARIABLE.sub(lambda match: match[0][1:] if match[1] else _value(match[2]), self.written)

    def address(self) -> str:
        """The text of a server's address. Its host is this machine or a variable's as a whole: a stranger's host would
        be sent the values otherwise. Raises ValueError, as `path` does."""
        text = self.path()
        plain = _VARIABLE.sub(lambda match: match[0][1:] if match[1] else _PLACEHOLDER, self.written)
        if not (_OWN_HOST.match(plain) or _LOOPBACK.match(plain)):
            raise ValueError("a variable must be the whole host or address: ${JUDGE_URL}, or http://${HOST}:8000/v1")
        if plain.startswith(_PLACEHOLDER) and not _BEGINS_WITH_HOST.match(_value(self.written[2:].partition("}")[0])):
            raise ValueError(f"{self.written.partition('}')[0]}}} is not an http(s) address with a host")
        return text

    def note(self, value: str) -> None:
        """Remember what the text became, for `as_written`."""
        self._filled[self.written].add(value)


class FilledText(str):
    """A text whose variables were filled in. `written`: as the recipe has it."""

    written: str

    def __new__(cls, text: str, written: str = "") -> "FilledText":
        self = super().__new__(cls, text)
        self.written = written or text
        return self


def with_variables(text: str, filled: Filled) -> str | Variables:
    """A recipe's text as its fields take it: `$${` stands for `${`."""
    if not any(not match[1] for match in _VARIABLE.finditer(text)):
        return _VARIABLE.sub(lambda match: match[0][1:], text)
    return Variables(text, filled)


def as_written(text: str, filled: Filled) -> str:
    """A text in which what variables became is replaced by what the recipe has."""
    values = [(value, written) for written, values in filled.items() for value in values if value]
    for value, written in sorted(values, key=lambda pair: -len(pair[0])):
        text = text.replace(value, written)
    return text


def unfilled(value: Any, filled: Filled) -> list[tuple[tuple[str | int, ...], str]]:
    """The paths and texts of all variables in a recipe's data that no field has tried to fill in."""
    if isinstance(value, Variables):
        return [] if value.written in filled else [((), value.written)]
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [((key, *path), text) for key, part in parts for path, text in unfilled(part, filled)]


def refusal(written: str) -> str:
    """What to say about variables in a field that is neither a path nor an address."""
    names = [match for match in _VARIABLE.finditer(written) if not match[1]]
    first = printable(names[0][0], 60)
    return f"{first} is filled in only in paths and addresses; write the value, use --set, or ${first} to keep the text"


def _value(name: str) -> str:
    """A variable's value. Raises ValueError."""
    shown = printable(name, 60)
    if is_secret(name):
        raise ValueError(f"${{{shown}}} is never filled in, because its name looks like a secret's; use another name")
    if name not in os.environ:
        advice = f"set it, or write $${{{shown}}} to keep the text as it is"
        raise ValueError(f"environment variable {shown!r} is not set; {advice}")
    if holds_secret(os.environ[name]):
        raise ValueError(f"${{{shown}}} is not filled in, because its value holds a key or a password")
    return os.environ[name]
