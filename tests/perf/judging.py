"""How fast verdicts come, against `alpaca_eval` itself: `python -m tests.perf.judging`.

A local server (a process of its own) takes 200 ms for every call. Ours: the AlpacaEval benchmark's `verdicts` on 805
instructions, through the `openai` judge with 64 calls at once and a new journal. Theirs: `alpaca_eval.evaluate` on the
same outputs and references with its defaults, in the same process, in turn; but it writes no files (its cache of
annotations would answer the second round) and fits no length-controlled rate, as ours doesn't here. What either imports
or loads once has been imported and loaded before. Then 40,000 recorded verdicts are read from annotation files in the
package's format and scored, but for the length-controlled rates, whose fits are timed apart; and as many replies are
read from a journal.

The instructions, references and outputs are AlpacaEval's own where the real data is, else texts of like length. The
last line is one JSON object: `ideal_ratio` (our seconds over ceil(805 / 64) * 0.2, the median of all rounds),
`speedup_alpaca_eval` (the median of the rounds' ratios), `load_seconds_40000`, and what they come from, with our
processor seconds, which other work on the machine changes little. `--small`: 24 instructions, 8 calls at once, 96
verdicts, one round.
"""

import json
import math
import os
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.perf._shared import add_data, is_there, options, report
from tests.perf.sides.slow_judge import TOP, running_server

DELAY = 0.2
SYSTEM = "gemma-2b-it"
Rows = list[dict[str, str]]


class Size(NamedTuple):
    """Instructions, calls at once, recorded verdicts to load, rounds of both sides, and our measurements a round."""

    count: int
    concurrency: int
    loaded: int
    rounds: int
    ours: int


FULL, SMALL = Size(805, 64, 40_000, 2, 3), Size(24, 8, 96, 1, 1)


class Texts(NamedTuple):
    """References and outputs in the public format, as many of each. `data`: AlpacaEval's own files, if any."""

    references: Rows
    outputs: Rows
    data: Path | None


def read_texts(data: Path, count: int) -> Texts:
    """`count` instructions, evenly spaced as the benchmark's `limit` takes them, or as many generated ones."""
    if is_there(data, "texts of like length"):
        from harness.files import evenly_spaced, read_bytes

        references = json.loads(read_bytes(data / "alpaca_eval_gpt4_baseline.json.gz"))
        outputs = json.loads(read_bytes(data / "recorded" / SYSTEM / "model_outputs.json.gz"))
        by_instruction = {row["instruction"]: row for row in outputs}
        references = evenly_spaced(references, count)
        return Texts(references, [by_instruction[row["instruction"]] for row in references], data)
    words = random.Random(0)

    def rows(name: str, length: int) -> Rows:
        texts = [" ".join(words.choices(("a", "few", "plain", "words", "sentence."), k=length)) for _ in range(count)]
        return [
            {"instruction": f"Question {i}?", "output": text, "generator": name, "dataset": "generated"}
            for i, text in enumerate(texts)
        ]

    return Texts(rows("reference", 350), rows("model", 200), None)


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


def our_benchmark(folder: Path, references: Rows) -> Any:
    from harness.components import build

    prompts = folder / "prompts.json"
    prompts.write_text(json.dumps(references))
    return build("benchmark", {"name": "alpaca_eval", "prompts": str(prompts), "reference": "file"})


def ours(benchmark: Any, url: str, outputs: Rows, folder: Path, concurrency: int) -> Timer:
    from harness.components import build
    from harness.judging.asker import make_ask
    from harness.types import Answer

    by_instruction = {row["instruction"]: row["output"] for row in outputs}
    answers = [
        Answer(question_id=q.id, turns=(by_instruction[q.turns[0]],), finish_reasons=(), tokens=None)
        for q in benchmark.load_questions()
        if q.turns[0] in by_instruction
    ]
    judge: Any = build("judge", {"name": "openai", "model": "gpt-4-1106-preview", "base_url": url})
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        ask = make_ask(judge, Path(scratch) / "journal.jsonl", concurrency=concurrency, advance=lambda _: None)
        with Timer() as timer:
            verdicts = benchmark.verdicts(answers, [], ask)
        assert sum(v.value is not None for v in verdicts) == len(answers)
        assert ask.ledger.asked + sum(not v.detail.get("asked", True) for v in verdicts) == len(answers)
    return timer


def theirs(references: Rows, outputs: Rows) -> Timer:
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


def recorded_files(folder: Path, texts: Texts) -> tuple[Any, list[tuple[Path, Path]]]:
    """(benchmark, (outputs, annotations) of each system): the recorded ones where they are, else a generated one."""
    from harness.components import build

    if texts.data is not None:
        fields = {"data_dir": str(texts.data), "df_gamed": str(texts.data / "df_gamed_reconstructed.csv")}
        systems = sorted(path for path in (texts.data / "recorded").iterdir() if path.is_dir())
        files = [(path / "model_outputs.json.gz", path / "annotations.json.gz") for path in systems]
        return build("benchmark", {"name": "alpaca_eval", "limit": len(texts.outputs), **fields}), files
    draw = random.Random(1)
    by_instruction = {row["instruction"]: row["output"] for row in texts.references}
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
        for row in texts.outputs
    ]
    (folder / "outputs.json").write_text(json.dumps(texts.outputs))
    (folder / "annotations.json").write_text(json.dumps(annotations))
    return our_benchmark(folder, texts.references), [(folder / "outputs.json", folder / "annotations.json")]


def loading(folder: Path, texts: Texts, wanted: int) -> dict[str, float]:
    """Seconds to read `wanted` recorded verdicts, a system's files one after the other, and to compute each system's
    figures but the length-controlled rate; of that rate, with its refits, for one system; and to read as many replies
    from a journal."""
    from unittest import mock

    from harness.engine.journal import Journal, content_key
    from harness.types import JudgeReply, Metric

    benchmark, files = recorded_files(folder, texts)
    systems = math.ceil(wanted / len(texts.outputs))

    def score(outputs_file: Path, annotations_file: Path) -> int:
        answers, _ = benchmark.recorded_answers(outputs_file)
        verdicts, _, _ = benchmark.recorded_verdicts(annotations_file, answers)
        return int(benchmark.metrics(answers, [], verdicts)["alpaca_eval.win_rate"].n)

    score(*files[0])
    with Timer() as controlled:
        score(*files[0])
    no_rate = {"lc_win_rate": Metric(value=None)}
    with mock.patch.object(type(benchmark), "_length_controlled", return_value=no_rate), Timer() as timer:
        scored = sum(score(*files[i % len(files)]) for i in range(systems))
    assert scored >= wanted
    reply = JudgeReply(text="m", logprobs={"m": -0.3, "M": -1.4}, prompt_tokens=900, completion_tokens=1, price=0.009)
    Journal(folder / "journal.jsonl", JudgeReply, column="reply").append(
        (content_key(number), reply) for number in range(wanted)
    )
    with Timer() as journal:
        assert len(Journal(folder / "journal.jsonl", JudgeReply, column="reply").rows()) == wanted
    return {
        f"load_seconds_{wanted}": timer.seconds,
        f"load_cpu_seconds_{wanted}": timer.cpu,
        f"journal_load_seconds_{wanted}": journal.seconds,
        "length_controlled_seconds_a_system": controlled.seconds - timer.seconds / systems,
    }


def compared(url: str, texts: Texts, size: Size, folder: Path) -> dict[str, float]:
    """Both sides, in turn."""
    references, outputs, _ = texts
    benchmark = our_benchmark(folder, references)
    ours(benchmark, url, outputs[:2], folder, size.concurrency)
    theirs(references[:2], outputs[:2])
    ideal = math.ceil(size.count / size.concurrency) * DELAY
    our_timers: list[Timer] = []
    speedups, their_seconds = [], []
    for number in range(size.rounds):
        mine = [ours(benchmark, url, outputs, folder, size.concurrency) for _ in range(size.ours)]
        their = theirs(references, outputs)
        our_timers += mine
        their_seconds.append(their.seconds)
        speedups.append(their.seconds / statistics.median(t.seconds for t in mine))
        shown = ", ".join(f"{t.seconds:.2f} s ({t.cpu:.2f} s of processor)" for t in mine)
        print(f"round {number + 1}: ours {shown}; alpaca_eval {their.seconds:.1f} s", flush=True)
    return {
        "ideal_ratio": statistics.median(t.seconds for t in our_timers) / ideal,
        "speedup_alpaca_eval": statistics.median(speedups),
        "our_seconds": statistics.median(t.seconds for t in our_timers),
        "our_cpu_seconds": statistics.median(t.cpu for t in our_timers),
        "alpaca_eval_seconds": statistics.median(their_seconds),
        "ideal_seconds": ideal,
    }


def main() -> None:
    parser = options(__doc__)
    add_data(parser)
    parser.add_argument("--rounds", type=int, help="of both sides; alpaca_eval's takes about 50 s")
    parser.add_argument("--ours", type=int, help="times that our side is measured in a round")
    chosen = parser.parse_args()
    size = SMALL if chosen.small else FULL
    size = size._replace(rounds=chosen.rounds or size.rounds, ours=chosen.ours or size.ours)
    os.environ["TQDM_DISABLE"] = "1"
    texts = read_texts(chosen.data / "alpaca_eval", size.count)
    with running_server(DELAY) as url, tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        folder = Path(scratch)
        clients = folder / "clients.yaml"
        clients.write_text(f"default:\n  - api_key: none-needed\n    base_url: {url}\n")
        os.environ["OPENAI_CLIENT_CONFIG_PATH"] = str(clients)  # before alpaca_eval is imported, which reads it
        result = compared(url, texts, size, folder) | loading(folder, texts, size.loaded)
    report({name: round(value, 3) for name, value in result.items()})


if __name__ == "__main__":
    main()
