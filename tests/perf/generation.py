"""Our `hf` generator against FastChat's `gen_model_answer` and alpaca_eval's local decoder:
`python -m tests.perf.generation`.

SmolLM2-135M, one answer a prompt, the same prompts, temperature and limit of new tokens for all, on this machine's
processor. FastChat's `get_model_answers` and alpaca_eval's `huggingface_local_completions` are the packages' own
functions with their own defaults (one prompt at a time each); the first is written for CUDA, so that its `.cuda()` does
nothing here and the model, loaded before, is handed to it. Loading is left out for all three. What is counted is what
`generate` returned, the end token included. Each of three rounds takes a third of the prompts through the two packages
and all of them through ours: what makes ours fast is that it computes them together, which is the point.

Prints the rates; the last line is one JSON object: `speedup_fastchat`, `speedup_alpaca_eval` (medians of the rounds'
ratios of generated tokens a second), the rates themselves, and ours with four samples a prompt.
"""

import argparse
import gzip
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m-instruct"
ROUNDS = 3
TEMPERATURE = 0.7
CHATML = "mistral-7b-openorca"
"""A model name whose conversation template in FastChat is ChatML, as SmolLM2's is."""


def prompts(count: int) -> list[str]:
    """AlpacaEval's instructions, evenly spaced, where they are at hand; else the package's own."""
    path = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval" / "alpaca_eval_gpt4_baseline.json.gz"
    if path.exists():
        rows = json.loads(gzip.decompress(path.read_bytes()))
    else:
        from harness.datafiles import asset

        rows = json.loads(asset("alpaca_eval.json").read_text())
    return [rows[i * len(rows) // count]["instruction"] for i in range(count)]


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


def our_rate(model: Any, tokenizer: Any, texts: Sequence[str], limit: int, samples: int) -> float:
    """Generated tokens a second of ours, tokenisation included."""
    from harness import chat
    from harness.decoding import Job, decode_all
    from harness.types import Message, Sampling

    start = time.perf_counter()
    sampling = Sampling(temperature=TEMPERATURE, max_new_tokens=limit)
    jobs = [
        Job(chat.encode_prompt(tokenizer, [Message(role="user", content=t)]), sampling, tuple(range(samples)))
        for t in texts
    ]
    done = decode_all(model, tokenizer, jobs, seed=0, batch_size=None, advance=lambda _: None)
    return sum(c.tokens for row in done for c in row) / (time.perf_counter() - start)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--prompts", type=int, default=48)
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"), help="bfloat16 is the model's")
    chosen = options.parse_args()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import torch
    import transformers

    from harness import models

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    texts = prompts(chosen.prompts)
    dtype = getattr(torch, chosen.dtype)
    folder = models.local_path(MODEL)
    tokenizer, model = models.load_tokenizer(MODEL), models.load_causal_lm(MODEL, None, chosen.dtype)
    print(
        f"{len(texts)} prompts, at most {chosen.tokens} new tokens, {chosen.dtype}, {torch.get_num_threads()} threads"
    )
    our_rate(model, tokenizer, texts[:4], 4, 1)  # what is made once
    rates: dict[str, list[float]] = {"ours": [], "fastchat": [], "alpaca_eval": [], "ours_four_samples": []}

    def measure(name: str, rate: Callable[[], float]) -> None:
        rates[name].append(rate())
        print(f"{name}: {rates[name][-1]:.1f} tokens/s", flush=True)

    for turn in range(ROUNDS):
        part = texts[turn::ROUNDS]
        measure("ours", lambda: our_rate(model, tokenizer, texts, chosen.tokens, 1))
        measure("fastchat", lambda part=part: fastchat_rate(model, tokenizer, part, chosen.tokens))  # type: ignore[misc]
        measure("ours_four_samples", lambda: our_rate(model, tokenizer, texts[:16], chosen.tokens, 4))
        measure("alpaca_eval", lambda part=part: alpaca_eval_rate(folder, tokenizer, part, chosen.tokens, dtype))  # type: ignore[misc]
    speedups = {
        f"speedup_{name}": round(statistics.median(a / b for a, b in zip(rates["ours"], rates[name], strict=True)), 2)
        for name in ("fastchat", "alpaca_eval")
    }
    per_second = {f"{name}_tokens_per_second": round(statistics.median(found), 1) for name, found in rates.items()}
    print(json.dumps(speedups | per_second))


if __name__ == "__main__":
    main()
