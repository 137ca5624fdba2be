"""Language models: loading by name, chat templates and decoding.

`load` loads weights and tokenizers (safetensors only), `builtin` fetches the built-in model, `chat` is the only place
where text becomes tokens, `decoding` samples in batches, `classifier`, `choices` and `embedding` score texts.

    from harness.models.load import load_causal_lm, load_tokenizer

    tokenizer = load_tokenizer("smollm2-135m-instruct")
    model = load_causal_lm("smollm2-135m-instruct", dtype="float32")
"""
