"""vLLM in its own environment, for `tests.perf.generation`: run by vLLM's Python, so it imports nothing of ours.

Arguments: the model's folder and the dtype. Prints READY; then reads a line of JSON (`prompts`: lists of token ids,
`tokens`: the limit, `temperature`) at a time, and prints DONE with the generated tokens and the seconds.
"""

import json
import sys
import time


def main() -> None:
    from vllm import LLM, SamplingParams

    folder, dtype = sys.argv[1:]
    model = LLM(
        model=folder,
        dtype=dtype,
        enforce_eager=True,
        max_model_len=2048,
        max_num_seqs=64,
        enable_prefix_caching=False,  # the rounds ask the same prompts
        disable_log_stats=True,
    )
    print("READY", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]
        sampling = [
            SamplingParams(temperature=job["temperature"], max_tokens=job["tokens"], seed=i)
            for i in range(len(prompts))
        ]
        start = time.perf_counter()
        outputs = model.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - start
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print("DONE", json.dumps({"tokens": tokens, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
