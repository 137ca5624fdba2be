"""What is tracked: one training, by whatever trainer, as one run of the recipe's trackers."""

import hashlib
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from harness.printable import holds_secret, is_secret
from harness.types import Record

_log = logging.getLogger(__name__)

SETTINGS = ("WANDB_", "TRACKIO_", "MLFLOW_", "TENSORBOARD_")
"""How the variables of trackers begin."""
OF_ONE_PROCESS = frozenset({"WANDB_SERVICE"})
"""What a tracker sets for the children of a process that has opened it."""
SHARED_TRACKIO = ("TRACKIO_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Any of these says where Trackio's runs of all machines go."""


class TrackedRun(Record):
    """One training. `key`: that of its stage. `group`: the recipe's name, and its board's. `row`: the board's row that
    it trains, or the stage. `kind`: train, sft or reward. `tags`: method, loss, N. `config`: what the result depends
    on. `logs`: the store's folder for trackers that write files."""

    trackers: tuple[str, ...]
    key: str
    group: str
    row: str
    kind: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    logs: Path

    @property
    def name(self) -> str:
        """The row, and the first digits of the key, which `harness plan` shows: a method with another beta is another
        run of the same row. Without characters that folders, or a tracker's names, can't have."""
        return f"{plain(self.row)}-{self.key[:8]}"

    @property
    def id(self) -> str:
        """The same whenever this recipe trains this; another recipe that shares the training has a run of its own."""
        return hashlib.sha256(f"{self.group}\n{self.key}".encode()).hexdigest()[:16]


_current: ContextVar[TrackedRun | None] = ContextVar("tracked run", default=None)


@contextmanager
def tracking(run: TrackedRun | None) -> Iterator[None]:
    """While open, trainings in this process are this run. A reward model's `fit` needs no argument for it."""
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> TrackedRun | None:
    """The run of the training that goes on now, as data, for processes that train together."""
    return _current.get()


def settings() -> dict[str, str]:
    """The environment's variables that say where runs go, and not with which key: for the nodes of a cluster, where
    curves must go where this process adds the final figures. Warns of an address with a password, which is not sent."""
    found = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(SETTINGS) and name not in OF_ONE_PROCESS and not is_secret(name)
    }
    for name in [name for name, value in found.items() if holds_secret(value)]:
        del found[name]
        _log.warning("%s holds a secret, which is not sent to nodes: set it in the environment of each node", name)
    return found


def about_nodes(trackers: Collection[str]) -> str | None:
    """What is to be known of trackers where trainings run on other machines; None: nothing."""
    if "trackio" not in trackers or any(os.environ.get(name) for name in SHARED_TRACKIO):
        return None
    where = "set TRACKIO_DIR to a folder that all nodes share, or TRACKIO_SERVER_URL"
    return f"trackio: curves stay in a folder of the node that trains, final figures in one here: {where}"


def plain(text: str) -> str:
    """A name for a folder: of letters, digits and `._=+-`, not beginning with a dot."""
    return re.sub(r"[^\w.=+-]", "-", text).lstrip(".")[:120] or "-"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; lists as text."""
    items: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            items |= flat(value, f"{prefix}{name}.")
        else:
            items[f"{prefix}{name}"] = str(value) if isinstance(value, list | tuple) else value
    return items
