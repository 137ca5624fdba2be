"""What decides a model's prompts and answers besides its files: how its chat template is rendered here, and where its
turns end. Part of stage keys where it differs from what a template and a tokenizer say by themselves."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.errors import ModelError
from harness.memo import once
from harness.models import chat
from harness.models.builtin.fetch import BUILTIN
from harness.models.checkpoints import adapters, hub
from harness.models.checkpoints.complete import quiet, readable
from harness.models.checkpoints.folder import CONFIG, is_adapter, is_whole, loaded_files
from harness.models.checkpoints.identity import identity as files_identity
from harness.models.checkpoints.stamps import cached
from harness.models.classifier import reads_pairs
from harness.models.config import declared_ends
from harness.models.templates.control_tokens import special_tokens
from harness.models.templates.rendering import fixed, taken
from harness.models.templates.thoughts import marking
from harness.models.tokenizers import load_tokenizer
from harness.outside import parse_json

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig


class Facts(NamedTuple):
    """`template`: what is fixed in its prompts (`harness.models.templates.rendering.fixed`), and `system: folded` of a
    template that leaves system messages out. `ends`: end tokens that only the model's configurations declare. `reads`:
    conversations in its own template, in the plain one, or as an encoder pairs two texts; None if that isn't known.
    `marks`: special tokens that mark thoughts. `system`: as in `harness.models.templates.taking.Takes`."""

    template: dict[str, str]
    ends: list[int]
    reads: Literal["own", "plain", "pairs"] | None
    marks: list[str]
    system: Literal["written", "refused", "left out"] = "written"


NONE = Facts({}, [], None, [])


def identity(model: str, revision: str | None = None) -> dict[str, Any]:
    """A model's part of stage keys and of provenance: its files (`harness.models.checkpoints.identity`), and how its
    prompts are rendered where that isn't its template's doing alone. Raises ModelError."""
    template = facts(model, revision).template
    return {**files_identity(model, revision), **({"template": template} if template else {})}


def sampling_identity(model: str, revision: str | None = None) -> dict[str, Any]:
    """What a key of texts that the model writes has besides `identity`: the end tokens that only its configurations
    declare, and the special tokens that mark thoughts. Texts did not end there once, and had no such marks."""
    known = facts(model, revision)
    return ({"ends": known.ends} if known.ends else {}) | ({"marks": known.marks} if known.marks else {})


def notices(model: str, revision: str | None = None) -> list[str]:
    """What a user should know of a model's prompts."""
    template = facts(model, revision).template
    texts = []
    if "date" in template:
        texts.append(f"writes the day's date: here it is always {template['date']}, so that prompts stay the same")
    if "draws" in template:
        texts.append("draws random numbers: it always draws the same here")
    return [f"the chat template of {model} {text}" for text in texts]


def facts(model: str, revision: str | None = None) -> Facts:
    """A model's facts, as far as this machine has its files; none of one whose tokenizer can't be read, which is
    reported where it is loaded."""
    return once(("model facts", model, revision), lambda: _facts(model, revision))


def _facts(model: str, revision: str | None) -> Facts:
    if model in BUILTIN:
        return NONE  # their templates have neither dates nor turns that end otherwise
    config = None if Path(model).is_absolute() else hub.cached_configuration(model, revision)
    folder = config.parent if config else Path(model)
    if not folder.is_absolute() or not folder.is_dir():
        return NONE

    def read() -> str:
        tokenizer = load_tokenizer(str(folder))
        system = taken(tokenizer).system
        left_out = {"system": "folded"} if system == "left out" else {}
        paired = reads_pairs(tokenizer)
        ends = [] if paired else sorted(_declared(folder) - {chat.end_of_turn(tokenizer), tokenizer.eos_token_id})
        reads = "own" if tokenizer.chat_template else "pairs" if paired else "plain"
        marks = sorted(marking(special_tokens(tokenizer).values()))
        return json.dumps([fixed(tokenizer) | left_out, ends, reads, marks, system])

    try:
        if is_adapter(folder) and not is_whole(folder):
            return Facts(*parse_json(read()))  # they depend on the base, too
        files = [path for path in loaded_files(folder) if path.suffix != ".safetensors"]
        return Facts(*parse_json(cached("model-facts-3", folder, files, read)))
    except ModelError:
        return NONE


def _declared(folder: Path) -> set[int]:
    """The ends that the configurations of a model, or of an adapter's base, declare."""
    if is_adapter(folder) and not is_whole(folder):
        base = adapters.base_of(folder)
        named = base.model in BUILTIN or Path(base.model).is_absolute()
        config = None if named else hub.cached_configuration(base.model, base.revision)
        folder = config.parent if config else Path(base.model)
    if not (folder / CONFIG).exists():
        return set()  # a tokenizer alone, or a base that isn't here
    return declared_ends(*configurations(folder))


def configurations(folder: Path) -> "tuple[PretrainedConfig, GenerationConfig]":
    """The configurations in a model's folder: its own, and that of its generation, which may follow from it."""
    from transformers import AutoConfig, GenerationConfig

    with readable(str(folder)), quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        own = (folder / "generation_config.json").exists()
        return config, GenerationConfig.from_pretrained(folder) if own else GenerationConfig.from_model_config(config)
