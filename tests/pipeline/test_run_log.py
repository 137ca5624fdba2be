"""A run's log file has everything, and the process's own logging goes on as before."""

import io
import logging
import os
import warnings
from pathlib import Path

import pytest

from harness.errors import JudgeError, StoreError
from harness.pipeline.run_log import logging_to


class Seen(logging.Handler):
    """A handler of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def seen() -> "Seen":
    handler = Seen()
    logging.getLogger().addHandler(handler)
    yield handler  # type: ignore[misc]
    logging.getLogger().removeHandler(handler)


def test_the_file_has_what_is_logged_and_warned(tmp_path: Path, seen: Seen) -> None:
    path, own = tmp_path / "board" / "run.log", logging.getLogger("harness.tests.debug")
    own.setLevel(logging.DEBUG)
    with logging_to(path):
        logging.getLogger("library").info("an info")
        logging.getLogger("library").warning("a warning")
        own.debug("a debugging message")
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
    logging.getLogger("library").warning("too late")
    text = path.read_text()
    assert "INFO library: an info" in text
    assert "WARNING library: a warning" in text
    assert "DEBUG harness.tests.debug: a debugging message" in text
    assert "DeprecationWarning: deprecated" in text
    assert "too late" not in text
    assert seen.messages == ["a warning", "a debugging message", "too late"]


def fails(message: str) -> None:
    logging.getLogger("library").info(message)
    raise RuntimeError(message)


def test_it_appends_and_leaves_nothing_behind(tmp_path: Path, seen: Seen) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers), list(warnings.filters), warnings.showwarning
    for message in ("first", "second"):
        with pytest.raises(RuntimeError, match=message), logging_to(tmp_path / "run.log"):
            fails(message)
    assert (root.level, list(root.handlers), list(warnings.filters), warnings.showwarning) == before
    assert seen.filters == []
    assert [line.split()[-1] for line in (tmp_path / "run.log").read_text().splitlines()] == ["first", "second"]


def test_warnings_that_are_captured_already_stay_so(tmp_path: Path, seen: Seen) -> None:
    logging.captureWarnings(True)
    try:
        with logging_to(tmp_path / "run.log"):
            warnings.warn("one of the run", UserWarning, stacklevel=1)
        warnings.warn("one after it", UserWarning, stacklevel=1)
    finally:
        logging.captureWarnings(False)
    first, second = seen.messages
    assert "one of the run" in first
    assert "one after it" in second


FORGED = "2026-01-01 00:00:00,000 INFO harness: all is well"


def test_a_record_is_one_line_whatever_it_holds(tmp_path: Path) -> None:
    log = logging.getLogger("library")
    with logging_to(tmp_path / "run.log"):
        for break_ in ("\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"):
            log.info("model %s", f"tiny{break_}{FORGED}")
        log.warning("\x1b[2K\x9b2K\u202e::error::no ##[error]no")
        logging.getLogger(f"a\n{FORGED}").info("x")
        warnings.warn(f"deprecated\n{FORGED}", UserWarning, stacklevel=1)
        try:
            raise ValueError(f"bad model\n{FORGED}\r{FORGED}\x1b[2K")
        except ValueError:
            log.exception("failed\n%s", FORGED)
    text = (tmp_path / "run.log").read_text()
    lines = text.split("\n")
    assert len([line for line in lines if line[:1].isdigit()]) == 13
    assert not [line for line in lines if line.startswith("2026-01-01")]
    assert all(line == "" or line[0].isdigit() or line.startswith("    ") for line in lines)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert ":\\:error::no" in text
    assert "    ValueError: bad model" in lines


def test_another_handler_s_traceback_is_not_copied(tmp_path: Path) -> None:
    """`logging` keeps on the record what the first formatter made of the exception."""
    plain = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(plain)
    try:
        with logging_to(tmp_path / "run.log"):
            try:
                raise ValueError(f"\n{FORGED}")
            except ValueError:
                logging.getLogger("library").exception("failed")
    finally:
        logging.getLogger().removeHandler(plain)
    assert f"\n{FORGED}" not in (tmp_path / "run.log").read_text()


@pytest.mark.parametrize("kind", ["link", "link to nowhere", "FIFO", "folder", "device"])
def test_nothing_is_logged_through_a_link(tmp_path: Path, kind: str) -> None:
    keys, path = tmp_path / "keys", tmp_path / "board" / "run.log"
    keys.write_text("OPENAI_API_KEY")
    path.parent.mkdir()
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to({"link": keys, "device": Path("/dev/null")}.get(kind, tmp_path / "new"))
    with pytest.raises(StoreError, match=r"run\.log is a "), logging_to(path):
        pass
    assert keys.read_text() == "OPENAI_API_KEY"
    assert not (tmp_path / "new").exists()
    linked = tmp_path / "linked"
    linked.symlink_to(path.parent)
    with pytest.raises(StoreError, match="linked is a symbolic link"), logging_to(linked / "run.log"):
        pass


def test_the_error_that_ends_a_run_is_in_the_file_only(tmp_path: Path, seen: Seen) -> None:
    with pytest.raises(JudgeError), logging_to(tmp_path / "run.log"):
        raise JudgeError("the server refused m (HTTP 400: no such plan)")
    assert "ERROR harness: stopped: the server refused m (HTTP 400: no such plan)" in (tmp_path / "run.log").read_text()
    assert seen.messages == []
