"""The `alpaca_eval` package's evaluators, and a user's own: their configs and prompt templates, and which of them a
judge of the harness can stand in for."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from harness.benchmarks.alpaca_eval.package import package_folder
from harness.errors import RecipeError, nearest, quoted
from harness.files import sha256
from harness.outside import LARGEST_SETTINGS, read_text, reason_of
from harness.types import Message, Messages

FUNCTION = ("tools", "tool_choice")
"""The parts of `completions_kwargs` that make the reply a function's arguments."""
CARRIED_OPTIONS = frozenset(
    {"model_name", "max_tokens", "max_tokens_to_sample", "temperature", "top_p", "logprobs", "top_logprobs", *FUNCTION}
)
"""The parts of an annotator's `completions_kwargs` that a JudgeRequest can carry. The model is the judge's own."""
CLIENT_OPTIONS = frozenset({"requires_chatml", "price_per_token", "client_kwargs", "client_function_name"})
"""Those about the package's own client and server, which are not used."""
DEFAULTS = {"max_tokens": 1000, "temperature": 0.7, "top_p": 1.0}
"""The package's own, for options that an evaluator doesn't set (`decoders/openai.py`)."""
FIELDS = ("instruction", "output_1", "output_2")
"""The names that a prompt template fills in."""


class Annotator(NamedTuple):
    """An evaluator config of the package or the user, with its prompt template. `source`: the name or folder by which
    the package loads it."""

    name: str
    config: Mapping[str, Any]
    template: str
    source: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The well-formed replies, if the annotator reads one token's log-probabilities; else empty."""
        parser = self.config.get("completion_parser_kwargs") or {}
        if self.config.get("fn_completion_parser") != "logprob_parser":
            return ()
        return tuple(dict.fromkeys([parser["numerator_token"], *parser["denominator_tokens"]]))

    @property
    def explains(self) -> bool:
        """Whether the reply is an explanation that ends with one of the choices."""
        return bool(self.choices) and (self.config.get("completion_parser_kwargs") or {}).get("log_prob_index") == -1

    @property
    def options(self) -> dict[str, Any]:
        """The options of a request: `max_tokens`, `temperature`, `top_p`, `top_logprobs`, `function`."""
        given = self.config.get("completions_kwargs") or {}
        function = {name: given[name] for name in FUNCTION if name in given}
        return {
            "max_tokens": given.get("max_tokens", given.get("max_tokens_to_sample", DEFAULTS["max_tokens"])),
            "temperature": given.get("temperature", DEFAULTS["temperature"]),
            "top_p": given.get("top_p", DEFAULTS["top_p"]),
            "top_logprobs": given.get("top_logprobs") if given.get("logprobs") else None,
            "function": json.dumps(function, sort_keys=True) if function else None,
        }


def load_annotator(name: str) -> Annotator:
    """An annotator by the name of its folder in the package's `evaluators_configs`, or by the absolute path of a user's
    folder with a `configs.yaml`, whose `prompt_template` is relative to the folder's parent, as in the package. Raises
    RecipeError for an unknown annotator, or one that needs more than a judge request can carry (several questions per
    prompt, no chat)."""
    is_folder = Path(name).is_absolute()
    base = Path(name).parent if is_folder else package_folder() / "evaluators_configs"
    names = [p.parent.name for p in base.glob("*/configs.yaml")]
    if is_folder and not (Path(name) / "configs.yaml").is_file():
        raise RecipeError(f"annotator: {name} has no configs.yaml; expected an evaluator's folder as in alpaca_eval")
    if not is_folder and name not in names:
        raise RecipeError(f"unknown alpaca_eval annotator {quoted(name)}; {nearest(name, names)}, or a folder")
    configs = _configs(base / Path(name).name / "configs.yaml")
    config = next(iter(configs.values()))
    path = base / str(config.get("prompt_template"))
    if is_folder and not path.exists():
        raise RecipeError(f"annotator: {name}: no prompt_template {path}; expected a path relative to {base}")
    try:
        template = read_text(path, LARGEST_SETTINGS, inside=base) if path.exists() else ""
    except (OSError, ValueError) as error:
        raise RecipeError(f"annotator: {path} can't be read ({reason_of(error)})") from None
    unknown = sorted(set(config.get("completions_kwargs") or {}) - CARRIED_OPTIONS - CLIENT_OPTIONS)
    reasons = [f"completions_kwargs {', '.join(unknown)}"] if unknown else []
    if len(configs) != 1:
        reasons.append("a pool of annotators")
    if config.get("batch_size", 1) != 1:
        reasons.append("several questions in one prompt")
    if chat_of(template) is None:
        reasons.append("a prompt that is not a chat")
    if unknown := sorted(set(re.findall(r"{([^ \s]+?)}", template)) - set(FIELDS)):
        reasons.append(f"{{{unknown[0][:40]}}} in its prompt")
    if (config.get("completion_parser_kwargs") or {}).get("log_prob_index", 0) not in (0, -1, "batch"):
        reasons.append("log-probabilities of a token within the reply")
    if reasons:
        usual = "weighted_alpaca_eval_gpt4_turbo, alpaca_eval_gpt4"
        raise RecipeError(f"alpaca_eval annotator '{name}' needs {'; '.join(reasons)}: not supported; use {usual}")
    return Annotator(Path(name).name, config, template, name)


def template_of(identity: Mapping[str, Any]) -> str | None:
    """The prompt template that a benchmark's identity has the hash of; None if the package has another one, or none."""
    try:
        template = load_annotator(Path(str(identity.get("annotator"))).name).template
    except RecipeError:  # a user's own, or one of another version
        return None
    return template if sha256(template.encode()) == identity.get("template_sha256") else None


def _configs(path: Path) -> dict[str, dict[str, Any]]:
    try:
        from harness.outside_yaml import parse_yaml  # here, because a gate reads a benchmark's figures and no YAML

        configs = parse_yaml(read_text(path, LARGEST_SETTINGS), any_keys=True)
    except (OSError, ValueError) as error:
        raise RecipeError(f"annotator: {path} can't be read ({reason_of(error)})") from None
    if not isinstance(configs, dict) or not configs or not all(isinstance(c, dict) for c in configs.values()):
        raise RecipeError(f"annotator: {path}: expected a mapping of names to evaluators, as in alpaca_eval")
    return configs


def chat_of(template: str) -> Messages | None:
    """The messages of a prompt template in ChatML, before it is filled in; None if it is no chat. (As by the package's
    `prompt_to_chatml`, without importing it.)"""
    text = template.strip()
    if not text.startswith("<|im_start|>") or not text.endswith("<|im_end|>"):
        return None
    parts = [part.partition("\n") for part in text.split("<|im_start|>")[1:]]
    messages = [{"role": role.strip(), "content": rest.split("<|im_end|>")[0].strip()} for role, _, rest in parts]
    try:
        return tuple(Message.model_validate(message) for message in messages)
    except ValidationError:
        return None
