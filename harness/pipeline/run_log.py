"""The log file of a run."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """While open, append all records from level INFO and Python's warnings to a file; the warnings are then not
    printed. The process's existing handlers are unaffected, and the previous state is restored at the end. Raises
    OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
        finally:
            root.setLevel(level)
            root.removeHandler(handler)
            handler.close()
            for other in existing:
                other.removeFilter(unchanged)
            if not was_captured:
                logging.captureWarnings(False)
