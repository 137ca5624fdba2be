"""`models/<row>` in a board's folder: a symbolic link to the row's checkpoint in the store.

The folder holds links that mean nothing elsewhere, so it tells git to ignore it. Of what else may be there, nothing is
replaced or removed: only links into a store's artifacts are the harness's.
"""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

from harness.boards.facts import MOST_NAMED
from harness.boards.writing import content, own_file, remove_link, replace_files, replace_link
from harness.errors import StoreError
from harness.files import file_name

_log = logging.getLogger(__name__)

MODELS = "models"
"""The subfolder of a board with a link for each trained row."""
_IGNORED = ".gitignore"
_CHECKPOINT = re.compile(r"(?:.*/)?artifacts/[0-9a-f]{64}/(?:at/[^/]+/)?checkpoint")
"""Where links of the harness lead."""


def check_models_folder(folder: Path) -> None:
    """Raises StoreError where `models` in a board's folder is a link, or its list of what git ignores isn't a file."""
    own_file(folder, f"{MODELS}/{_IGNORED}")


def link_models(folder: Path, checkpoints: Mapping[str, Path]) -> None:
    """Make `models` in a board's folder hold links to these checkpoints, by row, and to no others. A file system
    without links, or a file that is in the way, is a warning: the board is whole without them."""
    check_models_folder(folder)
    models = folder / MODELS
    links = {models / file_name(row): checkpoint for row, checkpoint in checkpoints.items()}
    try:
        for link in models.iterdir() if models.is_dir() else ():
            if link not in links and _is_ours(link):
                remove_link(link)
        if links and content(ignored := models / _IGNORED, 10) is None:
            replace_files({ignored: b"*\n"})
        for link, checkpoint in links.items():
            if os.path.lexists(link) and not _is_ours(link):
                _log.warning("%s is not a link of the harness; it is kept, and the checkpoint is %s", link, checkpoint)
            else:
                replace_link(link, _target(folder, checkpoint))
    except OSError as error:
        _log.warning("%s: no links to the checkpoints (%s)", models, error.strerror or error)


def gone(folder: Path) -> str | None:
    """A line about the links of a board's folder that lead nowhere any longer; None without any."""
    try:
        models = own_file(folder, f"{MODELS}/{_IGNORED}").parent
        names = [link.name for link in sorted(models.iterdir()) if _is_ours(link) and not link.is_dir()]
    except (OSError, StoreError):  # there are none, or they are somebody else's
        return None
    if not names:
        return None
    listed = ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} links"
    return (
        f"{models}: the checkpoints of {listed} are gone: the store was moved, or cache gc removed them; run the "
        "recipe again, which makes what is missing"
    )


def linked_store(folder: Path, row: str, key: str) -> Path | None:
    """The root of the store that a row's link leads into, if it leads to the artifact `key`."""
    link = folder / MODELS / file_name(row)
    if not _is_ours(link):
        return None
    artifact = link.resolve().parent
    return artifact.parents[1] if artifact.name == key and artifact.is_dir() else None


def _is_ours(link: Path) -> bool:
    return link.is_symlink() and _CHECKPOINT.fullmatch(os.readlink(link)) is not None


def _target(folder: Path, checkpoint: Path) -> str:
    """What the link says: a relative path where the store lies in the folder that the leaderboards lie in, so that both
    can be moved together; else an absolute one."""
    board, checkpoint = folder.resolve(), checkpoint.resolve()
    project = board.parent.parent
    if project != project.parent and checkpoint.is_relative_to(project):
        return os.path.relpath(checkpoint, board / MODELS)
    return str(checkpoint)
