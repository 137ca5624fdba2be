"""The one place that makes text from outside fit to print or log: names, errors of servers, rows of files, conflicts.

Such text may hold escape sequences that rewrite a terminal, line breaks that forge a line of a log, and commands that a
CI runner obeys (`::error::`, `##[error]`).
"""

import re

_COMMAND = re.compile(
    r"::(?=(?:error|warning|notice|debug|group|endgroup|echo|stop-commands|add-mask|add-path|add-matcher|remove-matcher"
    r"|set-output|set-env|save-state)\b)|##(?=vso\[|\[)",
    re.IGNORECASE,
)
"""How the commands of GitHub's and Azure's runners begin. The first counts only at the start of a line, where wrapping
can bring any part of a text."""


def printable(text: str, width: int | None = None) -> str:
    """A text on one line: white space becomes single spaces, control and format characters (escape sequences, text
    direction) their escapes such as `\\x1b`, and commands of CI runners get a backslash. `width`: its largest number
    of characters, the rest becomes `…`."""
    line = escaped(" ".join(text.split()))
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def escaped(text: str) -> str:
    """`printable` for a text of several lines, whose line breaks and tabs stay."""
    plain = "".join(c if c.isprintable() or c in "\n\t" else _escape(c) for c in text)
    return _COMMAND.sub(lambda match: match[0][0] + "\\" + match[0][1:], plain)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode() if character != "\xa0" else " "
