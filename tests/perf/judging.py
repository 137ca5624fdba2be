"""How fast verdicts come, against `alpaca_eval` itself: `python -m tests.perf.judging`.

A local server (a process of its own) takes 200 ms for every call. Ours: the AlpacaEval benchmark's `verdicts` on 805
instructions, through the `openai` judge with 64 calls at once and a new journal. Theirs: `alpaca_eval.evaluate` on the
same outputs and references with its defaults, in the same process, in turn; but it writes no files (its cache of
annotations would answer the second round) and fits no length-controlled rate, as ours doesn't here. What either imports
or loads once has been imported and loaded before. Then 40,000 recorded verdicts are read from annotation files in the
package's format and scored, but for the length-controlled rates, whose fits are told apart; and as many replies are
read from a journal.

The instructions, references and outputs are AlpacaEval's own where ../shared/data is, else texts of like length. The
last line is one JSON object: `ideal_ratio` (our seconds over ceil(805 / 64) * 0.2, the median of all rounds),
`speedup_alpaca_eval` (the median of the rounds' ratios), `load_seconds_40000`, and what they come from, with our
processor seconds, which other work on the machine changes little.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval"
DELAY = 0.2
CONCURRENCY = 64
COUNT = 805
TOP = [{"token": t, "logprob": x, "bytes": list(t.encode())} for t, x in (("m", -0.3), ("M", -1.4), ("x", -9.0))]


async def serve() -> None:
    """Answers every request after DELAY with one and the same verdict; prints its port."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "m", "refusal": None},
        "logprobs": {"content": [{**TOP[0], "top_logprobs": TOP}], "refusal": None},
    }
    usage = {"prompt_tokens": 900, "completion_tokens": 1, "total_tokens": 901}
    head = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
    body = json.dumps({**head, "choices": [choice], "usage": usage}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                length = next(line for line in lines if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                await asyncio.sleep(DELAY)
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.perf.judging", "--serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def texts() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(references, outputs) in the public format, COUNT of each."""
    if DATA.exists():
        from harness.datafiles import read_bytes

        references = json.loads(read_bytes(DATA / "alpaca_eval_gpt4_baseline.json.gz"))
        outputs = json.loads(read_bytes(DATA / "recorded" / "gemma-2b-it" / "model_outputs.json.gz"))
        by_instruction = {row["instruction"]: row for row in outputs}
        return references, [by_instruction[row["instruction"]] for row in references]
    words = random.Random(0)

    def rows(name: str, length: int) -> list[dict[str, str]]:
        made = (" ".join(words.choices(("a", "few", "plain", "words", "sentence."), k=length)) for _ in range(COUNT))
        return [
            {"instruction": f"Question {i}?", "output": text, "generator": name, "dataset": "made"}
            for i, text in enumerate(made)
        ]

    return rows("reference", 350), rows("model", 200)


class Timer:
    """Seconds, and processor seconds of this process, of a block."""

    def __enter__(self) -> "Timer":
        self._start = time.perf_counter(), self._cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu = time.perf_counter() - self._start[0], self._cpu() - self._start[1]

    def _cpu(self) -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime


def our_benchmark(folder: Path, references: list[dict[str, str]]) -> Any:
    from harness.components import build

    prompts = folder / "prompts.json"
    prompts.write_text(json.dumps(references))
    return build("benchmark", {"name": "alpaca_eval", "prompts": str(prompts), "reference": "file"})


def ours(benchmark: Any, url: str, outputs: list[dict[str, str]], folder: Path) -> Timer:
    from harness.components import build
    from harness.judging import make_ask
    from harness.types import Answer

    by_instruction = {row["instruction"]: row["output"] for row in outputs}
    answers = [
        Answer(question_id=q.id, turns=(by_instruction[q.turns[0]],), finish_reasons=(), tokens=None)
        for q in benchmark.questions()
        if q.turns[0] in by_instruction
    ]
    judge = build("judge", {"name": "openai", "model": "gpt-4-1106-preview", "base_url": url})
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        ask = make_ask(judge, Path(scratch) / "journal.jsonl", concurrency=CONCURRENCY, advance=lambda _: None)
        with Timer() as timer:
            verdicts = benchmark.verdicts(answers, [], ask)
        assert sum(v.value is not None for v in verdicts) == len(answers)
        assert ask.ledger.asked + sum(not v.detail.get("asked", True) for v in verdicts) == len(answers)
    return timer


def theirs(references: list[dict[str, str]], outputs: list[dict[str, str]]) -> Timer:
    import alpaca_eval

    with Timer() as timer:
        _, annotations = alpaca_eval.evaluate(
            model_outputs=outputs,
            reference_outputs=references,
            precomputed_leaderboard=None,
            output_path=None,
            is_return_instead_of_print=True,
            caching_path=None,
            fn_metric="get_winrate",
            sort_by="win_rate",
        )
    assert sum(a["preference"] is not None for a in annotations) == len(outputs)
    return timer


def recorded_files(
    folder: Path, references: list[dict[str, str]], outputs: list[dict[str, str]]
) -> tuple[Any, list[Any]]:
    """(benchmark, (outputs, annotations) of each system): the recorded ones where they are, else one made up."""
    from harness.components import build

    if DATA.exists():
        gamed = str(DATA / "df_gamed_reconstructed.csv")
        systems = sorted(path for path in (DATA / "recorded").iterdir() if path.is_dir())
        files = [(path / "model_outputs.json.gz", path / "annotations.json.gz") for path in systems]
        return build("benchmark", {"name": "alpaca_eval", "data_dir": str(DATA), "df_gamed": gamed}), files
    draw = random.Random(1)
    by_instruction = {row["instruction"]: row["output"] for row in references}
    annotations = [
        {
            "instruction": row["instruction"],
            "output_1": by_instruction[row["instruction"]],
            "generator_1": "reference",
            "dataset": row["dataset"],
            "output_2": row["output"],
            "generator_2": "model",
            "annotator": "weighted_alpaca_eval_gpt4_turbo",
            "preference": 1 + draw.betavariate(1, 3),
            "raw_completion": {"logprobs": {"content": [{"token": "m", "top_logprobs": TOP}]}},
            "price_per_example": 0.01,
        }
        for row in outputs
    ]
    (folder / "outputs.json").write_text(json.dumps(outputs))
    (folder / "annotations.json").write_text(json.dumps(annotations))
    return our_benchmark(folder, references), [(folder / "outputs.json", folder / "annotations.json")]


def loading(folder: Path, references: list[dict[str, str]], outputs: list[dict[str, str]]) -> dict[str, float]:
    """Seconds to read 40,000 recorded verdicts, files of 50 systems one after the other, and to make each system's
    figures but the length-controlled rate; of that, with its 300 refits, for one system; and to read as many replies
    from a journal."""
    from unittest import mock

    from harness.journal import Journal, content_key
    from harness.types import JudgeReply, Metric

    benchmark, files = recorded_files(folder, references, outputs)

    def score(outputs_file: Path, annotations_file: Path) -> int:
        answers, _ = benchmark.recorded_answers(outputs_file)
        verdicts, _, _ = benchmark.recorded_verdicts(annotations_file, answers)
        return int(benchmark.metrics(answers, [], verdicts)["alpaca_eval.win_rate"].n)

    score(*files[0])
    with Timer() as controlled:
        score(*files[0])
    with mock.patch.object(type(benchmark), "_lc_win_rate", return_value=Metric(value=None)), Timer() as timer:
        scored = sum(score(*files[i % len(files)]) for i in range(math.ceil(40_000 / COUNT)))
    assert scored >= 40_000
    reply = JudgeReply(text="m", logprobs={"m": -0.3, "M": -1.4}, prompt_tokens=900, completion_tokens=1, price=0.009)
    Journal(folder / "journal.jsonl", JudgeReply, column="reply").append(
        (content_key(number), reply) for number in range(40_000)
    )
    with Timer() as journal:
        assert len(Journal(folder / "journal.jsonl", JudgeReply, column="reply").rows()) == 40_000
    return {
        "load_seconds_40000": timer.seconds,
        "load_cpu_seconds_40000": timer.cpu,
        "journal_load_seconds_40000": journal.seconds,
        "length_controlled_seconds_a_system": controlled.seconds - timer.seconds / math.ceil(40_000 / COUNT),
    }


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--serve", action="store_true", help="be the server")
    options.add_argument("--rounds", type=int, default=2, help="of both sides; alpaca_eval's takes about 50 s")
    options.add_argument("--ours", type=int, default=3, help="times that our side is measured in a round")
    chosen = options.parse_args()
    if chosen.serve:
        asyncio.run(serve())
        return
    os.environ["TQDM_DISABLE"] = "1"
    ideal = math.ceil(COUNT / CONCURRENCY) * DELAY
    our_timers: list[Timer] = []
    speedups, their_seconds = [], []
    with running_server() as url, tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        folder = Path(scratch)
        clients = folder / "clients.yaml"
        clients.write_text(f"default:\n  - api_key: none-needed\n    base_url: {url}\n")
        os.environ["OPENAI_CLIENT_CONFIG_PATH"] = str(clients)  # before alpaca_eval is imported, which reads it
        references, outputs = texts()
        benchmark = our_benchmark(folder, references)
        ours(benchmark, url, outputs[:2], folder)
        theirs(references[:2], outputs[:2])
        for number in range(chosen.rounds):
            mine = [ours(benchmark, url, outputs, folder) for _ in range(chosen.ours)]
            their = theirs(references, outputs)
            our_timers += mine
            their_seconds.append(their.seconds)
            speedups.append(their.seconds / statistics.median(t.seconds for t in mine))
            shown = ", ".join(f"{t.seconds:.2f} s ({t.cpu:.2f} s of processor)" for t in mine)
            print(f"round {number + 1}: ours {shown}; alpaca_eval {their.seconds:.1f} s", flush=True)
        loaded = loading(folder, references, outputs)
    result = {
        "ideal_ratio": statistics.median(t.seconds for t in our_timers) / ideal,
        "speedup_alpaca_eval": statistics.median(speedups),
        **loaded,
        "our_seconds": statistics.median(t.seconds for t in our_timers),
        "our_cpu_seconds": statistics.median(t.cpu for t in our_timers),
        "alpaca_eval_seconds": statistics.median(their_seconds),
        "ideal_seconds": ideal,
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
