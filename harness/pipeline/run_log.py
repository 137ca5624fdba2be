"""The log file of a run."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.boards.writing import open_to_append, own_file
from harness.errors import HarnessError
from harness.printable import LineFormatter

HTTP_LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "openai", "urllib3"})


class _KeepUnchanged(logging.Filter):
    """Drops the records that only the run's log should get: those below the root logger's previous level, and Python's
    warnings unless they were captured before."""

    def __init__(self, level: int, warnings_too: bool) -> None:
        super().__init__()
        self._level, self._warnings_too = level, warnings_too

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "py.warnings" and not self._warnings_too:
            return False
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None and (logger.level == logging.NOTSET or logger is logging.root):
            logger = logger.parent
        return record.levelno >= (logger.level if logger is not None else self._level)


def _is_no_request(record: logging.LogRecord) -> bool:
    """Whether a record is more than a line of an HTTP library about a request. Those hold whole addresses: parts that
    recipes leave to variables, and signatures of the hub's storage."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in HTTP_LIBRARIES


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """While open, append all records from level INFO and Python's warnings to a file, a line each, and the error that
    ends a run; the warnings are then not printed. The process's existing handlers are unaffected, and the previous
    state is restored at the end. Raises StoreError for a link, and OSError."""
    own_file(path.parent, path.name)
    file = open_to_append(path)
    handler = logging.StreamHandler(io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace"))
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_is_no_request)
    root = logging.getLogger()
    level, existing = root.level, list(root.handlers)
    with warnings.catch_warnings():
        showwarning = warnings.showwarning
        logging.captureWarnings(True)
        was_captured = warnings.showwarning is showwarning
        warnings.simplefilter("default")
        unchanged = _KeepUnchanged(level, was_captured)
        for other in existing:
            other.addFilter(unchanged)
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            yield
        except HarnessError as error:
            # For the file only: the command prints it.
            handler.handle(logging.LogRecord("harness", logging.ERROR, __file__, 0, "stopped: %s", (error,), None))
            raise
        finally:
            root.setLevel(level)
            root.removeHandler(handler)
            handler.close()
            handler.stream.close()
            for other in existing:
                other.removeFilter(unchanged)
            if not was_captured:
                logging.captureWarnings(False)
