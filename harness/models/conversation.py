"""A model's tokenizer with the recipe's values for its chat template, and what the template does about answers, for
stage keys."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import outside
from harness.errors import HarnessError
from harness.memo import once
from harness.models.builtin.fetch import BUILTIN
from harness.models.checkpoints import hub
from harness.models.checkpoints.folder import is_whole, loaded_files
from harness.models.checkpoints.stamps import cached
from harness.models.facts import identity
from harness.models.templates.answered import bridge
from harness.models.templates.variables import with_variables
from harness.models.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MAY_BRIDGE = re.compile(r"think|channel|reason|message\|>", re.IGNORECASE)
"""In templates of models that think or write to channels. Others are not loaded for a key."""


def tokenizer_with(model: str, revision: str | None, variables: Mapping[str, Any]) -> "PreTrainedTokenizerBase":
    """A model's tokenizer, its chat template with these values. Raises ModelError."""
    return with_variables(load_tokenizer(model, revision), variables)


def before_answers(
    model: str, revision: str | None = None, variables: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The part of a key of whatever scores or trains on given answers: what the template writes before them, where that
    isn't the prompt for an answer (`harness.models.templates.answered`). Empty for most models, and for one that isn't
    on this machine or whose template is refused elsewhere."""
    values = json.dumps(variables or {}, sort_keys=True)
    found = once(("before answers", model, revision, values), lambda: _bridge(model, revision, variables or {}, values))
    return {"before_answers": found} if found else {}


def scored_model(model: str, revision: str | None = None) -> dict[str, Any]:
    """A model's identity for what trains it on given answers, or scores them with it. Raises ModelError."""
    return identity(model, revision) | before_answers(model, revision)


def _bridge(model: str, revision: str | None, variables: Mapping[str, Any], values: str) -> str:
    """`Bridge` in words; empty if there is none."""
    if model in BUILTIN:
        return ""
    config = None if Path(model).is_absolute() else hub.cached_configuration(model, revision)
    folder = config.parent if config else Path(model)
    if not folder.is_absolute() or not folder.is_dir():
        return ""

    def compute() -> str:
        cut, text = bridge(tokenizer_with(model, revision, variables))
        return f"-{cut} +{text!r}" if cut or text else ""

    kind = f"model-checks/before-answers-{hashlib.sha256(values.encode()).hexdigest()[:16]}"
    try:
        if not _MAY_BRIDGE.search(_template(folder)):
            return ""
        return cached(kind, folder, loaded_files(folder), compute) if is_whole(folder) else compute()
    except (HarnessError, OSError, ValueError):  # `check` reports it, with the field
        return ""


def _template(folder: Path) -> str:
    """The files of a folder that may hold its chat template."""
    names = ("chat_template.jinja", "tokenizer_config.json", "chat_template.json")
    return "\n".join(outside.read_text(folder / n) for n in names if (folder / n).is_file())
