"""Runs hold what they need: while one lives, `gc` keeps the artifacts of its plan, between its stages too.

A run's lease is `locks/runs/NONCE`, and lists the keys. `gc` removes artifacts under the lease `locks/gc`. A run takes
its own lease before it looks into the store, and then waits for a `gc` that may have listed the runs before.
"""

import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.boards.writing import replace_files
from harness.engine.durable import make_folder
from harness.engine.lease import POLL, Lease, holder, kernel
from harness.engine.store import Store
from harness.files import file_name
from harness.outside import read_file
from harness.types import Record

_log = logging.getLogger("harness")


def _folder(store: Store) -> Path:
    return store.root / "locks" / "runs"


@contextmanager
def running(store: Store, keys: Iterable[str]) -> Iterator[None]:
    """While open, `gc` keeps the artifacts of these keys and all that they were computed from."""
    make_folder(_folder(store))
    lease = Lease(_folder(store) / secrets.token_hex(8), also={"keys": sorted(keys)})
    lease.acquire()
    try:
        with collecting(store):
            pass
        yield
    finally:
        lease.release()
        lease.remove()


@contextmanager
def collecting(store: Store) -> Iterator[None]:
    """While open, no run looks into the store for the first time."""
    lease = store.lock("gc")
    lease.acquire(lambda: _log.warning("%s: waiting until `harness cache gc` has finished", store.root))
    try:
        yield
    finally:
        lease.release()


class RunNames(Record):
    """What the runs of a recipe call their stages: ids by key. For people only; no result depends on it."""

    recipe: str
    stages: dict[str, str]


def note_names(store: Store, recipe: str, stages: Mapping[str, str]) -> None:
    """Keep what a recipe's run calls its stages (ids by key), beside what its earlier runs called those that are still
    stored: an artifact is named by its key alone, and one may belong to several recipes."""
    path = store.root / "names" / f"{file_name(recipe)}.json"
    known = _names_in(path)
    earlier = {key: name for key, name in known.stages.items() if (store.artifacts / key).is_dir()} if known else {}
    names = RunNames(recipe=recipe, stages=earlier | dict(stages))
    try:
        replace_files({path: names.model_dump_json().encode()})
    except OSError as error:
        _log.warning("%s can't be written (%s): `harness cache ls` lists stages by kind", path, error.strerror)


def stage_names(store: Store) -> dict[str, list[tuple[str, str]]]:
    """(stage's id, recipe) of the stages that runs have named, by key; a file that can't be read names none."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((store.root / "names").glob("*.json")):
        if names := _names_in(path):
            for key, name in names.stages.items():
                found.setdefault(key, []).append((name, names.recipe))
    return found


def _names_in(path: Path) -> RunNames | None:
    try:
        return RunNames.model_validate_json(read_file(path))
    except (OSError, ValueError, RecursionError):  # there is none, or it is damaged
        return None


def live_runs(store: Store) -> set[str]:
    """The keys that live runs need. A run of another machine is watched until it shows a sign of life, or for so long
    that it must be dead."""
    watched = [Lease(path.with_suffix("")) for path in sorted(_folder(store).glob("*.lease"))]
    first = {lease.path: holder(lease.path) for lease in watched}
    keys: set[str] = set()
    while watched:
        waiting = []
        for lease in watched:
            now = holder(lease.path)
            if lease.try_acquire():
                lease.release()
                lease.remove()
            elif now.get("kernel") == kernel() or now != first[lease.path]:
                keys.update(now.get("keys", first[lease.path].get("keys", ())))
            else:
                waiting.append(lease)
        watched = waiting
        if watched:
            time.sleep(POLL)
    return keys
