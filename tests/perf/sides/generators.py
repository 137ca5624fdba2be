"""Generators in processes of their own, for `tests.perf.generation`: vLLM, by its own environment's Python, which has
nothing of ours; and ours, with the environment that the command line sets.

Arguments: `vllm` or `ours`, the model's folder or name, the dtype. Prints READY; then reads a line of JSON at a time
(`prompts`: lists of token ids for vLLM, texts for ours; `tokens`: the limit; `samples` a prompt; `temperature`), and
prints DONE with the generated tokens and the seconds. Ours includes tokenisation.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Job = dict[str, Any]


def vllm(model_name: str, dtype: str) -> Callable[[Job], int]:
    """A function that generates what a job says and returns the number of tokens."""
    from vllm import LLM, SamplingParams

    model = LLM(
        model=model_name,
        dtype=dtype,
        enforce_eager=True,
        max_model_len=2048,
        max_num_seqs=64,
        enable_prefix_caching=False,  # the rounds ask the same prompts
        disable_log_stats=True,
    )

    def run(job: Job) -> int:
        prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]
        sampling = [
            SamplingParams(temperature=job["temperature"], max_tokens=job["tokens"], n=job["samples"], seed=i)
            for i in range(len(prompts))
        ]
        outputs = model.generate(prompts, sampling, use_tqdm=False)
        return sum(len(completion.token_ids) for output in outputs for completion in output.outputs)

    return run


def ours(model_name: str, dtype: str) -> Callable[[Job], int]:
    """The same with our generator."""
    import harness.cli.app  # noqa: F401  (sets the environment, before torch is imported)
    from harness.models import chat
    from harness.models import load as models
    from harness.models.batching import Job as Batched
    from harness.models.decoding import decode_all
    from harness.types import Message, Sampling

    tokenizer, model = models.load_tokenizer(model_name), models.load_causal_lm(model_name, None, dtype)

    def run(job: Job) -> int:
        sampling = Sampling(temperature=job["temperature"], max_new_tokens=job["tokens"])
        prompts = [chat.encode_prompt(tokenizer, [Message(role="user", content=t)]) for t in job["prompts"]]
        jobs = [Batched(prompt, sampling, tuple(range(job["samples"]))) for prompt in prompts]
        done = decode_all(model, tokenizer, jobs, seed=0, batch_size=None, advance=lambda _: None)
        return sum(completion.tokens for row in done for completion in row)

    return run


def main() -> None:
    who, model_name, dtype = sys.argv[1:]
    run = {"vllm": vllm, "ours": ours}[who](model_name, dtype)
    print("READY", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        tokens = run(json.loads(line))
        print("DONE", json.dumps({"tokens": tokens, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
