"""A run's log file has everything, and the process's own logging goes on as before."""

import logging
import warnings
from pathlib import Path

import pytest

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
