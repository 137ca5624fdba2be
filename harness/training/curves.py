"""Where experiment trackers draw a training's curves."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def tensorboard_in(folder: Path) -> Iterator[None]:
    """While open, transformers' trainers write TensorBoard's files to `folder`. The variable is the only way that
    transformers 5 offers."""
    name = "TENSORBOARD_LOGGING_DIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
