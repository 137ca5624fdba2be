"""Decoding in slots: the rows that wait, and the workers that take them.

On a CPU two workers share the threads. Each decodes rows of its own: small products don't get faster by threads, and
the many small steps between them not at all.
"""

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.errors import ModelError
from harness.models.batching import BatchLimits, device_memory, is_out_of_memory
from harness.models.decode.attention import slot_attention
from harness.models.decode.packed import packed_weights
from harness.models.decode.rows import Ending, Row
from harness.models.decode.sampling import stream
from harness.models.decode.slots import SlotBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_WORKERS = 2
ROWS_A_WORKER = 8
"""Fewer rows are better decoded by one worker on all threads."""
PASS_CPU, PASS = 256, 8192
"""Tokens of prompts that are computed together, on a CPU and on an accelerator, before one more prompt is one too many.
On a CPU more tokens aren't faster."""
PACKED_SHARE = 8
"""Weights are packed where they take at most this part of the memory."""

_log = logging.getLogger(__name__)


class Waiting:
    """Rows that wait for a slot, those with the most tokens first: running out of memory shows at once, and neighbours
    have similar lengths. Rows in a group share their prompt. All methods may be called from any thread.

    `is_long`: whether a row of so many tokens has other rotary factors than shorter ones, and so is decoded apart from
    them (see `harness.models.config.rope_class`); None: none has."""

    def __init__(self, is_long: Callable[[int], bool] | None = None) -> None:
        self._is_long = is_long
        self._changed = threading.Condition()
        self._groups: dict[bool, list[tuple[int, int, list[Row]]]] = {False: [], True: []}
        self._long = is_long is not None
        self._number = 0
        self._in_work = 0
        self._finished: deque[Row] = deque()
        self.workers = 1
        self.stopped = False
        self.error: BaseException | None = None

    def put(self, rows: list[Row]) -> None:
        """Add a group of rows."""
        with self._changed:
            self._number += 1
            heapq.heappush(self._groups[self.is_long(rows[0])], (-rows[0].length, self._number, rows))
            self._changed.notify_all()

    def is_long(self, row: Row) -> bool:
        """Whether the row is one of those that have other rotary factors."""
        return self._is_long is not None and self._is_long(row.length)

    def take(self, most: int) -> list[Row]:
        """At most so many rows of the group that is next; none if nothing waits that may be decoded now."""
        with self._changed:
            if self.stopped:
                return []
            if not self._groups[self._long] and not self._in_work:
                self._long = not self._long
            groups = self._groups[self._long]
            if not groups:
                return []
            length, number, rows = heapq.heappop(groups)
            taken, rest = rows[:most], rows[most:]
            if rest:
                heapq.heappush(groups, (length, number, rest))
            self._in_work += len(taken)
            return taken

    def put_back(self, rows: list[Row]) -> None:
        """Return rows that were taken and not finished."""
        with self._changed:
            self._in_work -= len(rows)
        self.put(rows)

    def finish(self, row: Row) -> None:
        with self._changed:
            self._finished.append(row)
            self._changed.notify_all()

    def finished(self) -> list[Row]:
        """The rows that were finished since the last call. They count as in work until `delivered`."""
        with self._changed:
            rows = list(self._finished)
            self._finished.clear()
            return rows

    def delivered(self, count: int) -> None:
        with self._changed:
            self._in_work -= count
            self._changed.notify_all()

    @property
    def is_done(self) -> bool:
        with self._changed:
            return not self._in_work and not any(self._groups.values())

    def wait(self, seconds: float) -> None:
        """Wait until a row is finished."""
        with self._changed:
            if not self.stopped and not self._finished:
                self._changed.wait(seconds)

    def wait_for_rows(self, seconds: float) -> None:
        """Wait until rows may have been added, or all is done."""
        with self._changed:
            if not self.stopped:
                self._changed.wait(seconds)

    def stop(self, error: BaseException | None = None) -> None:
        with self._changed:
            self.stopped = True
            self.error = self.error or error
            self._changed.notify_all()

    def retire(self) -> bool:
        """Whether a worker may leave the rows to the others: not the last one."""
        with self._changed:
            self.workers -= 1
            return self.workers > 0


class Worker:
    """Decodes waiting rows, at most `limits.sequences` at a time."""

    def __init__(
        self, model: "PreTrainedModel", ending: Ending, seed: int, waiting: Waiting, limits: BatchLimits
    ) -> None:
        self._model, self._ending, self._seed, self._waiting, self._limits = model, ending, seed, waiting, limits
        self._rows = limits.sequences
        self._batch = SlotBatch(model, ending, 0, 0)
        self._held: list[Row] = []
        self._is_long = False
        self._entering: list[list[Row]] = []

    def turn(self) -> bool:
        """One more token for every row, after free slots were filled; whether there was anything to do. Raises
        ModelError if a single row doesn't fit in memory."""
        try:
            return self._turn()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        self._use_less()  # not inside of `except`: the exception keeps the failed step's memory alive
        return True

    def run(self, threads: int) -> None:
        """Take turns on so many threads of torch until all is done."""
        import torch

        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                while not self._waiting.stopped and not self._waiting.is_done and self._rows:
                    if not self.turn():
                        self._waiting.wait_for_rows(0.05)
        except BaseException as error:  # raised again by the thread that waits for this one
            self._waiting.stop(error)

    def _turn(self) -> bool:
        self._fill()
        # A new token may turn all keys of its row by other angles: then the row is computed anew.
        for row in [row for row in self._batch.active if self._waiting.is_long(row) and not self._is_long]:
            self._batch.leave([row])
            self._waiting.put_back([row])
        if not self._batch.active:
            return False
        for row in self._batch.step():
            self._waiting.finish(row)
        return True

    def _fill(self) -> None:
        while self._enter():
            self._is_long = self._waiting.is_long(self._entering[0][0])
            for row in self._batch.admit(self._entering):
                self._waiting.finish(row)
            self._entering = []

    def _enter(self) -> bool:
        """Take rows whose prompts are computed in one forward pass; whether there are any. A pass is short, so that
        all workers have about as many tokens of prompts."""
        tokens, most = 0, PASS_CPU if self._model.device.type == "cpu" else PASS
        while tokens < most:
            taken = len(self._batch.active) + sum(map(len, self._entering))
            if not self._held and taken < self._rows:
                self._held = self._waiting.take(self._rows - taken)
            if not self._held or not self._fits(taken):
                break
            tokens += self._held[0].length
            self._entering.append(self._held)
            self._held = []
        return bool(self._entering)

    def _fits(self, taken: int) -> bool:
        """Whether the held rows can be decoded together with the others, of which there are `taken`, within the limits
        of memory and padding. Enlarges the slots if needed, and returns rows that are too many."""
        others = [*self._batch.active, *(row for rows in self._entering for row in rows)]
        longest = max(row.longest for row in [*others, *self._held])
        room = max(1, min(self._rows, self._limits.tokens // longest))
        if others:
            length, widest = self._held[0].length, max(row.length for row in others)
            padding = (widest - length) * (room - taken) if widest > length else (length - widest) * taken
            if padding > self._limits.padding or taken >= room:
                return False
        if taken + len(self._held) > room:
            self._waiting.put_back(self._held[room - taken :])
            self._held = self._held[: room - taken]
        if longest > self._batch.columns or room > self._batch.rows:
            self._batch.resize(room, longest)
        return True

    def _use_less(self) -> None:
        """After memory ran out: half as many rows. Those in work start again, with the same result."""
        rows = {id(row): row for row in [*self._batch.clear(), *self._held, *(r for g in self._entering for r in g)]}
        self._held, self._entering = [], []
        at_once = min(self._rows, max(1, len(rows)))
        longest = max((row.length for row in rows.values()), default=0)
        for row in rows.values():
            sample = row.sample
            self._waiting.put_back([Row(sample, stream(self._seed, sample.prompt, sample.sample))])
        if self._model.device.type != "cpu":
            import torch

            getattr(torch, self._model.device.type).empty_cache()
        self._rows = at_once // 2
        self._batch.least = min(self._batch.least, self._rows)
        if self._rows:
            _log.warning("%d sequences do not fit in memory together; at most %d are decoded", at_once, self._rows)
        elif not self._waiting.retire():
            raise ModelError(
                f"a prompt of {longest} tokens does not fit in memory with {self._model.name_or_path}: "
                "use shorter prompts, fewer max_new_tokens, or a smaller model"
            )


def decode_waiting(
    model: "PreTrainedModel",
    ending: Ending,
    seed: int,
    waiting: Waiting,
    limits: BatchLimits,
    rows: int,
    arrived: Callable[[list[Row]], None],
) -> None:
    """Decode all waiting rows, of which there are `rows` now. `arrived` takes finished ones, in the calling thread; it
    may add more to `waiting`."""
    import torch

    threads = torch.get_num_threads()
    workers = min(MOST_WORKERS, threads, rows // ROWS_A_WORKER) if model.device.type == "cpu" else 1
    waiting.workers = max(1, workers)
    share = BatchLimits(
        sequences=min(limits.sequences, -(-rows // waiting.workers)),
        tokens=limits.tokens // waiting.workers,
        padding=limits.padding,
    )
    teams = [Worker(model, ending, seed, waiting, share) for _ in range(waiting.workers)]

    def deliver() -> None:
        if finished := waiting.finished():
            arrived(finished)
            waiting.delivered(len(finished))

    with slot_attention(model), packed_weights(model, device_memory(model) // PACKED_SHARE):
        if len(teams) == 1:
            with torch.inference_mode():
                while not waiting.is_done:
                    teams[0].turn()
                    deliver()
            return
        running = [threading.Thread(target=one.run, args=(threads // len(teams),), daemon=True) for one in teams]
        try:
            for thread in running:
                thread.start()
            while not waiting.stopped and not waiting.is_done:
                waiting.wait(0.2)
                deliver()
        finally:
            waiting.stop()
            for thread in running:
                thread.join()
            torch.set_num_threads(threads)
        if waiting.error is not None:
            raise waiting.error
