"""What an error looks like to the user: one line and an exit code; and output on a terminal that lacks characters."""

import codecs
import io
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from typer.exceptions import Abort, TyperException

from harness.cli.codes import LINE, STOPPED, UNREAD
from harness.cli.console import say
from harness.errors import HarnessError, missing_package
from harness.printable import masked, printable

_IN_ASCII = (
    dict.fromkeys("‐‑‒–—−─━", "-")
    | {"…": "...", "±": "+/-", "×": "x", "·": "*", "•": "*", "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≈": "~"}
    | {"‘": "'", "’": "'", "“": '"', "”": '"', "│": "|", "✓": "ok", "✗": "x", "▲": "^", "▼": "v", "█": "#"}
)
"""How characters of our own texts are written where the terminal's encoding lacks them."""


def as_exit_code(error: BaseException) -> int:
    """The exit code of a command that ended with this error, after its line has been printed."""
    if isinstance(error, KeyboardInterrupt | Abort):
        say(LINE, error=True)
        return STOPPED
    by_typer = isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError)
    if isinstance(error, BrokenPipeError) or by_typer:
        # typer makes it an exit code of 1, which means worse to a gate.
        # What is still buffered would fail once more when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 2
    if text := _line(error):
        say(f"harness: {printable(text)}", error=True)
    return 2


def _line(error: BaseException) -> str:
    if isinstance(error, HarnessError):
        return str(error)
    if missing := missing_package(error, " ".join(sys.argv[1:2])):
        return str(missing)
    if isinstance(error, TyperException):
        message = error.format_message().rstrip(".")
        return f"{message}; see harness --help" if message else ""  # empty without a command: the help is printed
    if isinstance(error, OSError) and error.errno is not None:  # a full disk, a folder that isn't writable
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    if isinstance(error, MemoryError):
        return "out of memory; finished stages are kept: use a machine with more, or smaller models and batches"
    what = f"{type(error).__name__}: {printable(str(error), 300)}" if str(error) else type(error).__name__
    log = _write_log(error)
    where = f"the traceback is in {log}" if log else "no folder for its traceback can be written: set HARNESS_HOME"
    return f"an error that should not occur ({what}); finished stages are kept; {where}: please report it"


def _log_folder() -> Path:
    from harness.files import cache_root

    return cache_root() / "logs"


def _write_log(error: BaseException) -> Path | None:
    """Write an error's traceback to a file that only the user can read; None if there is nowhere to write."""
    text = masked("".join(traceback.format_exception(error)))
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (_log_folder, lambda: Path(tempfile.gettempdir())):
        try:
            path = folder() / name
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return path
        except (OSError, HarnessError):  # not writable; a user without a home
            continue
    return None


def write_what_the_terminal_can() -> None:
    """Characters that the terminal's encoding lacks are written in ASCII, or else as escapes, instead of ending the
    command."""
    codecs.register_error("harness", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="harness")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(c) or ascii(c)[1:-1] for c in characters), error.end
