"""Where experiment trackers draw a training's curves."""

from contextlib import AbstractContextManager
from pathlib import Path

from harness.children.start import in_environment


def tensorboard_in(folder: Path) -> AbstractContextManager[None]:
    """While open, transformers' trainers write TensorBoard's files to `folder`. The variable is the only way that
    transformers 5 offers."""
    return in_environment({"TENSORBOARD_LOGGING_DIR": str(folder)})
