"""The replicas of an engine, and which engines run in this process."""

import atexit
import contextlib
import hashlib
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from harness.errors import ModelError
from harness.serving.engine import Engine
from harness.serving.ports import listens
from harness.serving.replica import LOOK, Replica

_log = logging.getLogger("harness")
WATCH = 5.0
"""Seconds between two looks at whether replicas still answer."""
MOST_LOGS = 50
"""Logs of replicas that are kept in a folder."""
_LOG = re.compile(r".+-[0-9a-f]{6}-\d+-\d+\.log")


class Pool:
    """The replicas of an engine. They are started together when the first address is asked for; one that dies is
    started again while the others go on, as is one that hangs: that doesn't say that it is ready for `silence` seconds,
    or that has answered no call, and counted no token, while one waited longer than that, in vain. `folder`: of their
    logs; `is_stopped`: whether the run is to end; `first`: the first of their GPUs."""

    def __init__(
        self, engine: Engine, folder: Path, is_stopped: Callable[[], bool] = lambda: False, first: int = 0
    ) -> None:
        self.engine = engine
        self.devices = range(first, first + engine.replicas * engine.gpus)
        names = [_log_name(engine, number) for number in range(engine.replicas)]
        gpus = [self.devices[i * engine.gpus : (i + 1) * engine.gpus] for i in range(engine.replicas)]
        self.replicas = [Replica(engine, i, folder / name, gpus[i]) for i, name in enumerate(names)]
        self._calls = [0] * engine.replicas
        self._restarts = [0] * engine.replicas
        self._worked = [0.0] * engine.replicas
        self._failures: dict[int, str] = {}
        self._starting: dict[int, threading.Thread] = {}
        self._has_served = False
        self._changed = threading.Condition()
        self._run_is_stopped = is_stopped
        self._stopped = threading.Event()
        _remove_old_logs(folder)

    @contextlib.contextmanager
    def address(self) -> Iterator[str]:
        """While open, a call may go to this address, that of the ready replica with the fewest calls. Raises ModelError
        if none can be started."""
        with self._changed:
            chosen = self._chosen()
            self._calls[chosen] += 1
            address = self.replicas[chosen].address
        began = time.monotonic()
        try:
            yield address
            self._worked[chosen] = time.monotonic()
        except Exception:
            self._look_at(chosen, address, began)
            raise
        finally:
            with self._changed:
                self._calls[chosen] -= 1

    def stop(self) -> None:
        """End all replicas."""
        self._stopped.set()
        with self._changed:
            starting = [*self._starting.values()]
            self._changed.notify_all()
        for thread in starting:
            thread.join()
        with ThreadPoolExecutor(len(self.replicas)) as at_once:
            list(at_once.map(Replica.stop, self.replicas))

    def _look_at(self, i: int, address: str, began: float) -> None:
        """Note that a replica is gone or hangs, after a call to it that has failed."""
        replica = self.replicas[i]
        waited = time.monotonic() - began
        if replica.address != address or replica.is_gone:
            return
        if not listens(replica.port):
            replica.is_gone = True
        elif waited > self.engine.silence and self._worked[i] < time.monotonic() - self.engine.silence:
            replica.kill(f"it answered no call in {waited:.0f} s: raise `timeout` of who asks it if it is only slow")

    def _watch(self) -> None:
        """Kill replicas that have fallen silent."""
        heard = dict.fromkeys(range(len(self.replicas)), time.monotonic())
        counted: dict[int, list[str]] = {}
        while not self._stopped.wait(min(WATCH, self.engine.silence / 4)):
            for i, replica in enumerate(self.replicas):
                if not (replica.is_ready and replica.is_alive) or replica.says_ready():
                    heard[i] = time.monotonic()
                    if self._calls[i] and (now := replica.counted()) != counted.get(i, []):
                        counted[i], self._worked[i] = now, heard[i]
                elif (silence := time.monotonic() - heard[i]) > self.engine.silence:
                    replica.kill(f"it hasn't said that it is ready for {silence:.0f} s")

    def _is_stopped(self) -> bool:
        return self._stopped.is_set() or self._run_is_stopped()

    def _chosen(self) -> int:
        while True:
            if self._is_stopped():
                raise ModelError(f"engine {self.engine.name}: it has been stopped")
            self._start_missing()
            ready = [i for i, replica in enumerate(self.replicas) if replica.is_ready and replica.is_alive]
            if self._failures and not (self._has_served and (ready or self._starting)):
                raise ModelError(self._failures[min(self._failures)])
            if ready and (self._has_served or not self._starting):
                if not self._has_served:
                    threading.Thread(target=self._watch, name="engine", daemon=True).start()
                self._has_served = True
                return min(ready, key=lambda i: (self._calls[i], i))
            self._changed.wait(LOOK)

    def _start_missing(self) -> None:
        """Start the replicas that don't run, unless one has died too often."""
        for i, replica in enumerate(self.replicas):
            if replica.is_alive or i in self._starting or i in self._failures:
                continue
            if replica.is_ready:
                replica.is_ready = False
                self._restarts[i] += 1
                words = replica.last_words()
                if self._restarts[i] > self.engine.restarts:
                    self._fails(i, f"replica {i} died {self._restarts[i]} times ({words}); its log is {replica.log}")
                    continue
                _log.warning("engine %s: replica %d died (%s) and is started again", self.engine.name, i, words)
            thread = threading.Thread(target=self._start, args=(i,), name="engine", daemon=True)
            self._starting[i] = thread
            thread.start()

    def _start(self, i: int) -> None:
        failure = ""
        try:
            self.replicas[i].start(self._is_stopped)
        except ModelError as error:
            failure = str(error)
        except BaseException as error:  # a thread's error would be lost, and calls would wait for ever
            failure = f"engine {self.engine.name}: replica {i} can't be started ({type(error).__name__}: {error})"
        with self._changed:
            del self._starting[i]
            if failure:
                self._failures[i] = failure
                if self._has_served and not self._is_stopped():
                    _log.warning("%s; the calls go to the others", failure)
            elif not self._starting:
                _log.info("engine %s: ready, %d replicas", self.engine.name, sum(r.is_ready for r in self.replicas))
            self._changed.notify_all()

    def _fails(self, i: int, words: str) -> None:
        self._failures[i] = f"engine {self.engine.name}: {words}"
        _log.warning("%s", self._failures[i])


class _Run(NamedTuple):
    """What pools are made with: the folder of logs (None: a temporary one), and whether the run is to end."""

    folder: Path | None = None
    is_stopped: Callable[[], bool] = lambda: False


_run = _Run()
_pools: dict[str, Pool] = {}
"""By what they are described by."""
_pools_lock = threading.Lock()


def pool_of(engine: Engine, folder: Path | None = None) -> Pool:
    """The pool of an engine in this process, made on first use, or that of a running one which serves its model, too.
    `folder`: of its logs; None: as `keep_only` said."""
    with _pools_lock:
        key = engine.model_dump_json()
        if running := next((pool for pool in _pools.values() if pool.engine.serves(engine)), None):
            return running
        if key not in _pools:
            if not _pools:
                atexit.register(stop_all)
            # Outside of a store, logs are for the user alone: they may hold prompts.
            folder = folder or _run.folder or Path(tempfile.mkdtemp(prefix="harness-engines-"))
            _pools[key] = Pool(engine, folder, _run.is_stopped, _first_device(engine))
        return _pools[key]


def keep_only(
    engines: Iterable[Engine], folder: Path | None = None, is_stopped: Callable[[], bool] = lambda: False
) -> None:
    """Stop all engines that serve none of these, so that their memory is free. `folder`, `is_stopped`: for those that
    start from now on."""
    global _run
    kept = tuple(engines)
    with _pools_lock:
        _run = _Run(folder, is_stopped)
        ended = [_pools.pop(k) for k, pool in [*_pools.items()] if not any(pool.engine.serves(e) for e in kept)]
    for pool in ended:
        pool.stop()


def stop_all() -> None:
    """Stop all engines."""
    keep_only(())


def _first_device(engine: Engine) -> int:
    """The first of so many GPUs that no running engine has."""
    taken = {device for pool in _pools.values() for device in pool.devices}
    needed = engine.gpus * engine.replicas
    return next(i for i in range(max(taken, default=-1) + 2) if not taken.intersection(range(i, i + needed)))


def _log_name(engine: Engine, replica: int) -> str:
    """Of its own for each engine, replica and process."""
    model = re.sub(r"[^A-Za-z0-9.]+", "_", Path(engine.served_name or engine.command[0]).name)[:60]
    digest = hashlib.sha256(engine.model_dump_json().encode()).hexdigest()[:6]
    return f"{engine.name}-{model}-{digest}-{replica}-{os.getpid()}.log"


def _remove_old_logs(folder: Path) -> None:
    with contextlib.suppress(OSError):
        logs = [path for path in folder.iterdir() if _LOG.fullmatch(path.name)]
        for path in sorted(logs, key=lambda path: path.stat().st_mtime)[:-MOST_LOGS]:
            path.unlink(missing_ok=True)
