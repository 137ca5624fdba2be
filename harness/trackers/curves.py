"""Opens a training's run with the recipe's trackers. Whatever they raise or print goes to the log, once to the user."""

import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from harness.printable import first_line, holds_secret
from harness.trackers.tracked import TrackedRun, current

_log = logging.getLogger(__name__)
_lost: set[str] = set()


class Backend(Protocol):
    """A tracker."""

    def open(self, run: TrackedRun, done: int) -> None:
        """Begin the run, or continue it after `done` steps."""
        ...

    def callback(self) -> Any:
        """What transformers' Trainer calls at each step."""
        ...

    def close(self, failed: bool) -> None:
        """End the run; `failed`: because the training did."""
        ...

    def summarise(self, run: TrackedRun, figures: Mapping[str, float], steps: Sequence[Mapping[str, Any]]) -> None:
        """Add final figures to the run, which is not open. `steps`: its curves, for a tracker that has lost them."""
        ...


def backend(name: str) -> Backend:
    """The tracker of that name. Its package is imported when it is opened."""
    if name == "wandb":
        from harness.trackers.to_wandb import Wandb

        return Wandb()
    if name == "trackio":
        from harness.trackers.to_trackio import Trackio

        return Trackio()
    if name == "mlflow":
        from harness.trackers.to_mlflow import Mlflow

        return Mlflow()
    from harness.trackers.to_tensorboard import Tensorboard

    return Tensorboard()


def try_again() -> None:
    """Forget which trackers have failed: a new run begins."""
    _lost.clear()


@contextmanager
def curves(done: int = 0) -> Iterator[list[Any]]:
    """transformers callbacks that draw the current run's curves; none outside `tracking`, and in all processes of a
    training but the first. The runs end with the block. `done`: the steps that a resumed training has behind it."""
    run = current()
    if run is None or os.environ.get("RANK", "0") != "0":
        yield []
        return
    opened: dict[str, Backend] = {}
    for name in run.trackers:
        tracker = backend(name)
        if attempt(name, tracker.open, run, done):
            opened[name] = tracker
    failed = True
    try:
        yield [_guarded(name, made) for name, tracker in opened.items() for made in _callback(name, tracker)]
        failed = False
    finally:
        for name, tracker in opened.items():
            attempt(name, tracker.close, failed, lost_too=True)


def summarise(run: TrackedRun, figures: Mapping[str, float], steps: Sequence[Mapping[str, Any]]) -> None:
    """Add final figures to a run with every tracker of the recipe."""
    for name in run.trackers:
        attempt(name, backend(name).summarise, run, figures, steps)


def attempt(name: str, call: Callable[..., Any], *arguments: Any, lost_too: bool = False) -> bool:
    """Call a tracker; returns whether that went well. One that fails is left out of the rest of the run, with one
    warning. `lost_too`: call it even so, to let go of what it holds."""
    was_lost = name in _lost
    if was_lost and not lost_too:
        return False
    try:
        with _aside(name):
            call(*arguments)
    except Exception as error:  # a tracker's: of any kind, and never the training's
        _lost.add(name)
        level = logging.INFO if was_lost else logging.WARNING
        reason = type(error).__name__ if holds_secret(str(error)) else first_line(error, 160)
        _log.log(level, "%s: %s; the run goes on, and %s gets no more of it", name, reason, name)
        return False
    return True


def _callback(name: str, tracker: Backend) -> list[Any]:
    made: list[Any] = []
    attempt(name, lambda: made.append(tracker.callback()))
    return made


def _guarded(name: str, inner: Any) -> Any:
    """The callback, unable to end a training."""
    from transformers import TrainerCallback

    class Guarded(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            attempt(name, lambda: inner.on_train_begin(args, state, control, **more))

        def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            attempt(name, lambda: inner.on_log(args, state, control, **more))

        def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            attempt(name, lambda: inner.on_save(args, state, control, **more))

        def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            attempt(name, lambda: inner.on_train_end(args, state, control, **more))

    return Guarded()


class _Aside(io.TextIOBase):
    """A stream that keeps what this thread writes; other threads, which draw the progress, write where they did."""

    def __init__(self, usual: Any) -> None:
        self._usual, self._thread, self._kept = usual, threading.get_ident(), io.StringIO()

    def write(self, text: str) -> int:
        return int((self._kept if threading.get_ident() == self._thread else self._usual).write(text))

    def flush(self) -> None:
        self._usual.flush()

    def lines(self) -> list[str]:
        return [line for line in self._kept.getvalue().splitlines() if line.strip()]


@contextmanager
def _aside(name: str) -> Iterator[None]:
    """While open, what a tracker prints goes to the log, and it finds nobody in the terminal to ask for a login."""
    streams = sys.stdin, sys.stdout, sys.stderr
    out, errors = _Aside(sys.stdout), _Aside(sys.stderr)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), out, errors
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        for line in (*out.lines(), *errors.lines()):
            if not holds_secret(line):
                _log.info("%s: %s", name, line)
