"""The one place that makes text from outside fit to print or log: names, errors of servers, rows of files, conflicts.

Such text may hold escape sequences that rewrite a terminal, line breaks that forge a line of a log, commands that a CI
runner obeys (`::error::`, `##[error]`), and keys of the user's that a server or a library repeats.
"""

import base64
import json
import logging
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

_COMMAND = re.compile(
    r"::(?=(?:error|warning|notice|debug|group|endgroup|echo|stop-commands|add-mask|add-path|add-matcher|remove-matcher"
    r"|set-output|set-env|save-state)\b)|##(?=vso\[|\[)",
    re.IGNORECASE,
)
"""How the commands of GitHub's and Azure's runners begin. The first counts only at the start of a line, where wrapping
can bring any part of a text."""
_SECRET = re.compile(
    r"key|secret|passw|passphrase|passcode|credential|token(?!s|_id|iz)|(api|auth|access|hf|bot)[_-]?tokens|bearer"
    r"|auth(?!or(?!i))|(?<!com)(?<!by)(?<!sur)pass(?![a-z])|(?<=_)pwd|(?<![a-z])(pat|creds?|cookies?|jwt|dsn|private)(?![a-z])",
    re.IGNORECASE,
)
"""Names of fields and variables that may hold a key or password. `max_new_tokens`, `tokenizer`, `author`, `compass` and
the working folder's PWD hold none."""
_USER_AND_PASSWORD = re.compile(r"://[^/\s@:]*:[^/\s@]+@")
SHORTEST_SECRET = 8
"""Characters. A shorter value is a dummy for a server that needs no key, or an ordinary word."""


def printable(text: str, width: int | None = None) -> str:
    """A text on one line: white space becomes single spaces, control and format characters (escape sequences, text
    direction) their escapes such as `\\x1b`, and commands of CI runners get a backslash. `width`: its largest number
    of characters, the rest becomes `…`."""
    line = escaped(" ".join(text.split()))
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def first_line(error: Exception, width: int | None = None) -> str:
    """The first line of what a library's error says, printable; its class if it says nothing."""
    return printable(str(error).strip().partition("\n")[0] or type(error).__name__, width)


def escaped(text: str) -> str:
    """`printable` for a text of several lines, whose line breaks and tabs stay."""
    plain = "".join(c if c.isprintable() or c in "\n\t" else _escape(c) for c in masked(text))
    return _COMMAND.sub(lambda match: match[0][0] + "\\" + match[0][1:], plain)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode() if character != "\xa0" else " "


@lru_cache(maxsize=1 << 10)
def is_secret(name: str) -> bool:
    """Whether a field or variable of this name may hold a secret: a key, a token or a password."""
    return bool(_SECRET.search(name))


def holds_secret(value: str) -> bool:
    """Whether a text holds one of the user's secrets, or an address with a password."""
    return bool(_USER_AND_PASSWORD.search(value)) or masked(value) != value


def masked(text: str, *others: str) -> str:
    """A text with `***` for the user's secrets and for `others`: the values of environment variables that look like
    secrets by their names, as they are, percent-encoded or in base64."""
    if len(text) < SHORTEST_SECRET:
        return text
    values = (value.strip() for name, value in os.environ.items() if is_secret(name))
    for form in _forms(frozenset(value for value in (*values, *others) if len(value) >= SHORTEST_SECRET)):
        text = text.replace(form, "***")
    return text


@lru_cache(maxsize=16)
def _forms(values: frozenset[str]) -> list[str]:
    """What secrets look like, the longest first."""
    # Names like SSH_AUTH_SOCK and GOOGLE_APPLICATION_CREDENTIALS lead to a file, whose name is no secret.
    secrets = [value for value in values if not (value.startswith(("/", "~")) and os.path.exists(value))]
    forms = set(secrets)
    for secret in secrets:
        forms.add(quote(secret, safe="", errors="surrogateescape"))
        forms.add(base64.b64encode(secret.encode("utf-8", "surrogateescape")).decode().rstrip("="))
    return sorted(forms, key=len, reverse=True)


def printable_json(value: Any, indent: int | None = None) -> str:
    """JSON of the same value whose texts are printable: what is not, and what begins a command, becomes an escape of
    JSON's own. Raises ValueError for NaN and infinity."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    return _COMMAND.sub(lambda match: f"{match[0][0]}\\u{ord(match[0][1]):04x}{match[0][2:]}", text)


class LineFormatter(logging.Formatter):
    """Formats a record as one line. What a traceback says follows on indented lines, which no record begins with."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        texts = [printable(self.formatMessage(record))]
        # Not `record.exc_text`, which another handler's formatter may have left.
        texts += [_indented(self.formatException(record.exc_info))] if record.exc_info else []
        texts += [_indented(self.formatStack(record.stack_info))] if record.stack_info else []
        return "\n".join(texts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in escaped(text).split("\n"))


def terminal(**options: Any) -> "Console":
    """A rich console that prints texts from outside as `escaped` renders them, and takes nothing in them for markup,
    emoji or numbers to colour. `options`: rich's own."""
    from rich.console import Console

    shown = lru_cache(maxsize=1 << 12)(escaped)  # most pieces of a table are borders and blanks

    class Terminal(Console):
        def render_str(self, text: str, **how: Any) -> "Text":
            return super().render_str(shown(text), **how)  # before it is measured

        def render(self, renderable: "RenderableType", options: "ConsoleOptions | None" = None) -> "Iterable[Segment]":
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=shown(segment.text))

    return Terminal(highlight=False, markup=False, emoji=False, **options)
