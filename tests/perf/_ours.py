"""Our generator in a process of its own, for `tests.perf.generation`, with the environment that the command line sets.

Arguments: the model's name or folder and the dtype. Prints READY; then reads a line of JSON (`texts`: the prompts,
`tokens`: the limit, `samples` a prompt, `temperature`) at a time, and prints DONE with the generated tokens and the
seconds, tokenisation included.
"""

import json
import sys
import time


def main() -> None:
    import harness.cli.app  # noqa: F401  (sets the environment, before torch is imported)
    from harness.models import chat
    from harness.models import load as models
    from harness.models.batching import Job
    from harness.models.decoding import decode_all
    from harness.types import Message, Sampling

    name, dtype = sys.argv[1:]
    tokenizer, model = models.load_tokenizer(name), models.load_causal_lm(name, None, dtype)
    print("READY", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        start = time.perf_counter()
        sampling = Sampling(temperature=job["temperature"], max_new_tokens=job["tokens"])
        prompts = [chat.encode_prompt(tokenizer, [Message(role="user", content=t)]) for t in job["texts"]]
        jobs = [Job(prompt, sampling, tuple(range(job["samples"]))) for prompt in prompts]
        done = decode_all(model, tokenizer, jobs, seed=0, batch_size=None, advance=lambda _: None)
        seconds = time.perf_counter() - start
        tokens = sum(completion.tokens for row in done for completion in row)
        print("DONE", json.dumps({"tokens": tokens, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
