"""Variables of a chat template (`enable_thinking`, `reasoning_effort`): which it has, and giving them values.

Values are written into the template, in front of it, as what holds unless a caller says otherwise. So whoever renders
the template has them: training, decoding, TRL's trainers, and the programs that a checkpoint is later served by.
"""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, JsonValue

from harness.errors import ModelError, nearest, quoted
from harness.models.templates.rendering import LARGEST_TEMPLATE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GIVEN = frozenset({"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now"})
"""Variables that every template is given by its caller; and so are special tokens (`bos_token`)."""


def _plain(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for name in values:
        if not name.isidentifier() or not name.isascii() or name in GIVEN or name.endswith("_token"):
            raise ValueError(f"{quoted(name)} can't be set here; expected a variable of the chat template's own")
    try:
        json.dumps(values, allow_nan=False).encode()
    except ValueError:
        raise ValueError("expected plain values and finite numbers") from None
    return values


TemplateVariables = Annotated[dict[str, JsonValue], AfterValidator(_plain)]
"""Values for a chat template's variables, by name."""


def with_variables(tokenizer: "PreTrainedTokenizerBase", values: Mapping[str, Any]) -> "PreTrainedTokenizerBase":
    """The tokenizer itself, its chat template with these values. Raises ModelError for a variable that the template
    doesn't mention."""
    template = tokenizer.chat_template
    if not values:
        return tokenizer
    known = variables(str(template or ""))
    if unknown := sorted(values.keys() - known):
        named = f"; {nearest(unknown[0], known)}" if known else ", nor any other variable; remove it"
        raise ModelError(f"chat_template_kwargs: the model's chat template doesn't mention {quoted(unknown[0])}{named}")
    # As a block's line break is trimmed, the template begins as before.
    preamble = "".join(
        f"{{% if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}"
        for name, value in sorted(values.items())
    )
    if not str(template).startswith(preamble):
        tokenizer.chat_template = f"{preamble}\n{template}"
    return tokenizer


def variables(template: str) -> set[str]:
    """The variables that a template takes from its caller, but those of GIVEN and special tokens. Those that it sets
    itself count where it asks whether they are defined. Raises ModelError if it isn't a template."""
    from jinja2 import TemplateError, meta, nodes
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if len(template) > LARGEST_TEMPLATE:
        return set()  # which is refused where it is rendered
    environment = ImmutableSandboxedEnvironment(extensions=[loopcontrols])
    try:
        tree = environment.parse(re.sub(r"\{%[-+]?\s*(?:end)?generation\s*[-+]?%\}", "", template))
        taken = meta.find_undeclared_variables(tree)
    except (TemplateError, RecursionError) as error:
        raise ModelError(f"its chat template is no Jinja template: {str(error)[:200]}") from error
    names = list(tree.find_all(nodes.Name))
    own = {name.name for name in names if name.ctx != "load"}
    asked = {
        test.node.name
        for test in tree.find_all((nodes.Test, nodes.Filter))
        if test.name in ("defined", "undefined", "default", "d") and isinstance(test.node, nodes.Name)
    }
    mine = {name for name in taken if name not in own or name in asked} - GIVEN
    return {name for name in mine if not name.endswith("_token")}


def _literal(value: Any) -> str:
    """A plain value as Jinja writes it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(k))}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
