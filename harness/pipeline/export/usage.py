"""How an exported model is loaded and served: lines to copy, for its card."""

import json
import re
import shlex

from harness.pipeline.export.base import Base
from harness.pipeline.export.row import TrainedRow
from harness.pipeline.export.weights import Written

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM takes for `--max-lora-rank`."""
_ANSWER = """\
messages = [{"role": "user", "content": "Why is the sky blue?"}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens=256)[0, prompt["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))"""


def python_lines(row: TrainedRow, written: Written, base: Base | None, name: str) -> str:
    """Python that answers a prompt with the model. `name`: its folder, or its id on the hub."""
    if not written.adapter or base is None:
        return "\n".join(
            [
                "from transformers import AutoModelForCausalLM, AutoTokenizer\n",
                f"tokenizer = AutoTokenizer.from_pretrained({_text(name)})",
                f'model = AutoModelForCausalLM.from_pretrained({_text(name)}, dtype="auto")',
                _ANSWER,
            ]
        )
    bits = (row.training.get("lora") or {}).get("bits")
    options = f"{_text(base.model)}{f', revision={_text(base.revision)}' if base.revision else ''}"
    options += f", dtype={_text(written.dtype)}{', quantization_config=quantised' if bits else ''}"
    lines = ["import torch"] if bits else []
    lines += ["from peft import PeftModel"]
    lines += [f"from transformers import AutoModelForCausalLM, AutoTokenizer{', BitsAndBytesConfig' if bits else ''}\n"]
    lines += [f"tokenizer = AutoTokenizer.from_pretrained({_text(name)})"]
    if bits:
        how = (
            f'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, '
            f"bnb_4bit_compute_dtype=torch.{written.dtype}"
        )
        lines += [f"quantised = BitsAndBytesConfig({how if bits == 4 else 'load_in_8bit=True'})"]
    lines += [
        f"base = AutoModelForCausalLM.from_pretrained({options})",
        f"model = PeftModel.from_pretrained(base, {_text(name)})",
        _ANSWER,
    ]
    return "\n".join(lines)


def serving_line(row: TrainedRow, written: Written, base: Base | None, name: str) -> str:
    """The command that serves the model with vLLM. `name`: its folder, or its id on the hub."""
    if not written.adapter or base is None:
        return f"vllm serve {shlex.quote(name)}"
    served = re.sub(r"[^\w.-]", "-", row.entry.id)
    r = int(row.training["lora"]["r"])
    rank = next((rank for rank in _RANKS if rank >= r), r)
    words = ["vllm", "serve", base.model, *(["--revision", base.revision] if base.revision else [])]
    words += ["--dtype", written.dtype, *([] if written.own_template else ["--tokenizer", name])]
    words += ["--quantization", "bitsandbytes"] if row.training["lora"].get("bits") == 4 else []
    words += ["--enable-lora", "--max-lora-rank", str(rank), "--lora-modules", f"{served}={name}"]
    return shlex.join(words)


def _text(value: str) -> str:
    """A text as Python writes it, in double quotes."""
    return json.dumps(value)
