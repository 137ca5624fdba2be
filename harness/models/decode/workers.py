"""Decoding in slots: the workers that take the rows.

On a CPU two workers share the threads. Each decodes rows of its own: small products don't get faster by threads, and
the many small steps between them not at all.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.errors import ModelError
from harness.models.batching import BatchLimits, device_memory, is_out_of_memory
from harness.models.decode.attention import slot_attention
from harness.models.decode.packed import packed_weights
from harness.models.decode.prompts import SHORTEST, Beginning, compute_beginning
from harness.models.decode.rows import Ending, Row
from harness.models.decode.slots import SlotBatch
from harness.models.decode.waiting import Waiting

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


class Worker:
    """Decodes waiting rows, at most `limits.sequences` at a time."""

    def __init__(
        self,
        model: "PreTrainedModel",
        ending: Ending,
        seed: int,
        waiting: Waiting,
        limits: BatchLimits,
        beginning: Beginning | None,
    ) -> None:
        self._model, self._ending, self._seed, self._waiting, self._limits = model, ending, seed, waiting, limits
        self._beginning = beginning
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
            for row in self._batch.admit(self._entering, None if self._is_long else self._beginning):
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
            self._waiting.put_back([self._ending.row(row.sample, self._seed)])
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
    beginning: Sequence[int],
    arrived: Callable[[list[Row]], None],
) -> None:
    """Decode all waiting rows, of which there are `rows` now. `beginning`: tokens that most prompts begin with.
    `arrived` takes finished ones, in the calling thread; it may add more to `waiting`."""
    import torch

    threads = torch.get_num_threads()
    workers = min(MOST_WORKERS, threads, rows // ROWS_A_WORKER) if model.device.type == "cpu" else 1
    waiting.workers = max(1, workers)
    share = BatchLimits(
        sequences=min(limits.sequences, -(-rows // waiting.workers)),
        tokens=limits.tokens // waiting.workers,
        padding=limits.padding,
    )

    def deliver() -> None:
        if finished := waiting.finished():
            arrived(finished)
            waiting.delivered(len(finished))

    with slot_attention(model), packed_weights(model, device_memory(model) // PACKED_SHARE):
        with torch.inference_mode():
            computed = compute_beginning(model, beginning) if len(beginning) >= SHORTEST else None
        teams = [Worker(model, ending, seed, waiting, share, computed) for _ in range(waiting.workers)]
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
