"""Answers of a base and two adapters through a managed vLLM against the decoder in this process:
`VLLM_PYTHON=/opt/vllm/bin/python python -m tests.perf.engines`.

64 prompts, greedy, at most 128 new tokens, SmolLM2-135M and two LoRA adapters on it. In process the three rows are
answered one after the other, each by `decode`, as a run does. vLLM serves all three by `--enable-lora`, 64 calls at a
time: row after row, as a run does, and all rows at once, which is the most that continuous batching could give. Loading
and the server's start are left out of the times and printed by themselves. vLLM's threads are as many as ours, on the
same cores; it is stopped while ours runs. The two sides take turns.

Prints one line a round; the last line is one JSON object: `vllm_speedup` (median of the rounds' in-process seconds over
vLLM's, rows at once), `vllm_speedup_row_by_row`, seconds of the clock and of processors and tokens a second of each
side, `start_seconds`, and `equal_share`: answers with the same text on both sides. `vllm_speedup_processor` is the
ratio of processor times, which other programs on the machine change little: with `--threads 1`, where no thread waits
for another. Without vLLM (`--vllm PYTHON`, or $VLLM_PYTHON) it says so in one line.
`--small`: a tiny random model, 4 prompts, 8 tokens, and a stand-in for the server.
"""

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.perf._shared import ROOT, options, report, tiny_model
from tests.perf.generation import MODEL, prompts

RANK = 8
ROUNDS = 3
AT_ONCE = 64
SEED = 1


class Row(NamedTuple):
    """A row and its adapter; None: the base."""

    name: str
    adapter: Path | None


class Side(NamedTuple):
    """Seconds that rows took, of the clock and of processors, and their texts by request."""

    seconds: float
    processor: float
    texts: dict[str, dict[int, str]]
    tokens: int


def adapters(name: str, dtype: Any, folder: Path) -> list[Path]:
    """Two random adapters on all linear layers, large enough to change what is written."""
    import torch
    from peft import LoraConfig, get_peft_model

    from harness.models.load import load_causal_lm

    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(load_causal_lm(name, None, dtype), config)
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.003)
        folders.append(folder / f"adapter-{seed}")
        model.save_pretrained(folders[-1])
    return folders


class InProcess:
    """This process's decoder, with each row's model loaded before its time is taken."""

    def __init__(self, model: str, dtype: Any, tokenizer: Any, jobs: Sequence[Any]) -> None:
        self._model, self._dtype, self._tokenizer, self._jobs = model, dtype, tokenizer, jobs

    def answer(self, row: Row) -> Side:
        from harness.models.decoding import decode
        from harness.training.checkpoint import Weights

        model = Weights(model=self._model, revision=None, dtype=self._dtype, adapter=row.adapter).load()
        done: list[Any] = []
        began, used = time.perf_counter(), time.process_time()
        decode(model, self._tokenizer, self._jobs, seed=SEED, batch_size=None, arrived=done.extend)
        return _side(row, time.perf_counter() - began, time.process_time() - used, done)


class Served:
    """An engine that the harness runs, asked as a run asks it."""

    def __init__(self, engine: Any, model: str, tokenizer: Any, jobs: Sequence[Any]) -> None:
        from harness.components import build
        from harness.models.decode.elsewhere import Elsewhere
        from harness.serving.engine import Named
        from harness.serving.pool import pool_of

        self._named = Named("perf", engine)
        self._asked: Any = build(
            "generator", {"name": "openai", "model": "perf", "engine": self._named, "timeout": 3600}
        )
        self._model = Elsewhere(model, None, tokenizer, None)
        self._jobs = jobs
        self._rows: dict[str, Any] = {}
        began = time.perf_counter()
        self._pool = pool_of(engine)
        with self._pool.address():
            self.start_seconds = time.perf_counter() - began

    def answer(self, row: Row, jobs: Sequence[Any] | None = None) -> Side:
        asked = self._rows.setdefault(row.name, self._asked.on(self._named, row.adapter))
        done: list[Any] = []
        began, used = time.perf_counter(), self._processor_time()
        asked.write(
            self._jobs if jobs is None else jobs,
            self._model,
            seed=SEED,
            arrived=done.extend,
            then=lambda sampled: None,
            threads=AT_ONCE,
            look=lambda: None,
        )
        return _side(row, time.perf_counter() - began, self._processor_time() - used, done)

    def answer_all(self, rows: Sequence[Row]) -> Side:
        """All rows at once."""
        began, used = time.perf_counter(), self._processor_time()
        with ThreadPoolExecutor(len(rows)) as pool:
            sides = list(pool.map(self.answer, rows))
        seconds, processor = time.perf_counter() - began, self._processor_time() - used
        return together(sides)._replace(seconds=seconds, processor=processor)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Its processes are stopped meanwhile: waiting, vLLM's take a part of a core."""
        processes = self._processes()
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        from harness.children.watch import descendants

        started = [r._process.pid for r in self._pool.replicas if r._process]
        return [one for process in started for one in (process, *descendants(process))]

    def _processor_time(self) -> float:
        """Seconds of processors that the server's processes have used."""
        ticks = 0
        for process in self._processes():
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _side(row: Row, seconds: float, processor: float, done: Sequence[Any]) -> Side:
    texts = {sampled.request: sampled.completion.text for sampled in done}
    return Side(seconds, processor, {row.name: texts}, sum(sampled.completion.tokens for sampled in done))


def together(sides: Sequence[Side]) -> Side:
    texts = {name: answers for side in sides for name, answers in side.texts.items()}
    seconds, processor = sum(side.seconds for side in sides), sum(side.processor for side in sides)
    return Side(seconds, processor, texts, sum(side.tokens for side in sides))


def vllm(python: str, model: str, dtype: str, threads: int) -> Any:
    """The engine of the base and its adapters."""
    from harness.serving.engine import Engine

    cores = sorted(os.sched_getaffinity(0))[:threads]
    given = Engine(
        model=model,
        python=Path(python),
        options={"enforce_eager": True, "max_model_len": 2048, "max_num_seqs": 3 * AT_ONCE, "max_loras": 2},
        environment={"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores))},
        silence=3600,  # it is stopped while ours runs
    )
    return given.of(model, None, dtype, RANK)


def stand_in() -> Any:
    from harness.serving.engine import Engine

    stub = str(ROOT / "tests" / "serving" / "stub.py")
    return Engine(name="command", command=(sys.executable, stub, "{port}"))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--vllm", metavar="PYTHON", default=os.environ.get("VLLM_PYTHON"))
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, help="of each side, by default torch's number")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of both sides")
    chosen = parser.parse_args()
    if not chosen.small and not (chosen.vllm and os.path.isfile(chosen.vllm)):
        print("no vLLM: name the Python of an environment that has it, in --vllm or $VLLM_PYTHON")
        return
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if chosen.threads:
        import torch

        torch.set_num_threads(chosen.threads)
    count, tokens = (4, 8) if chosen.small else (64, 128)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = str(tiny_model(folder / "model")) if chosen.small else MODEL
        texts = prompts(chosen.prompts or count, folder / "absent")
        rows = [Row("base", None), *(Row(p.name, p) for p in adapters(model, chosen.dtype, folder))]
        engine = _engine(chosen, model)
        report(compared(model, rows, texts, chosen.tokens or tokens, chosen.dtype, engine, chosen.rounds))


def _engine(chosen: Any, model: str) -> Callable[[int], Any]:
    if chosen.small:
        return lambda threads: stand_in()
    return lambda threads: vllm(chosen.vllm, model, chosen.dtype, threads)


def compared(
    model: str,
    rows: Sequence[Row],
    texts: Sequence[str],
    limit: int,
    dtype: str,
    engine: Callable[[int], Any],
    rounds: int,
) -> dict[str, float]:
    """Both sides, in turn."""
    import torch

    from harness.models import chat
    from harness.models.batching import Job
    from harness.models.load import load_tokenizer
    from harness.serving.pool import stop_all
    from harness.types import Message, Sampling

    tokenizer = load_tokenizer(model)
    sampling = Sampling(temperature=0, top_p=1, max_new_tokens=limit)
    jobs = [Job(chat.encode_prompt(tokenizer, [Message(role="user", content=text)]), sampling) for text in texts]
    ours = InProcess(model, dtype, tokenizer, jobs)
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    try:
        served = Served(engine(torch.get_num_threads()), model, tokenizer, jobs)
        note("start_seconds", served.start_seconds)
        for row in rows:
            served.answer(row, jobs[:2])  # what is built once: adapters are loaded
        for turn in range(rounds):
            with served.stopped():
                each = [ours.answer(row) for row in rows]
            mine, one_by_one = together(each), [served.answer(row) for row in rows]
            theirs, at_once = together(one_by_one), served.answer_all(rows)
            for row, own, other in zip(rows, each, one_by_one, strict=True):
                note(f"ours_{row.name}_seconds", own.seconds)
                note(f"vllm_{row.name}_seconds", other.seconds)
                note(f"{row.name}_processor_ratio", own.processor / max(0.01, other.processor))
            for name, side in (("ours", mine), ("vllm_row_by_row", theirs), ("vllm", at_once)):
                note(f"{name}_seconds", side.seconds)
                note(f"{name}_processor_seconds", side.processor)
                note(f"{name}_tokens_per_second", side.tokens / side.seconds)
            note("vllm_speedup", mine.seconds / at_once.seconds)
            note("vllm_speedup_row_by_row", mine.seconds / theirs.seconds)
            note("vllm_speedup_processor", mine.processor / max(0.01, at_once.processor))
            note("equal_share", _equal(mine, at_once))
            print(f"round {turn + 1}: {', '.join(f'{k} {v[-1]:.2f}' for k, v in figures.items())}", flush=True)
    finally:
        stop_all()
    return {name.replace("-", "_"): round(statistics.median(values), 2) for name, values in figures.items()}


def _equal(one: Side, other: Side) -> float:
    pairs = [(text, other.texts[row][i]) for row, answers in one.texts.items() for i, text in answers.items()]
    return sum(a == b for a, b in pairs) / len(pairs)


if __name__ == "__main__":
    main()
