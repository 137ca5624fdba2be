"""Checks of a seed's prompts against a chat template, before a run: the template takes their roles, and writes them."""

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.errors import ModelError
from harness.models import chat
from harness.models.builtin.fetch import BUILTIN
from harness.models.conversation import tokenizer_with
from harness.models.templates.rendering import taken
from harness.types import Messages

_log = logging.getLogger(__name__)
QUESTION = ("user",)
"""The roles of a prompt of one question, which every template takes."""


@functools.cache
def tell(notice: str) -> None:
    """Shows a notice, once: several components often have the same model."""
    _log.warning("%s", notice)


def orders_of_roles(prompts: Iterable[Messages]) -> list[Messages]:
    """A prompt of each order of roles, but for single questions."""
    by_roles: dict[tuple[str, ...], Messages] = {tuple(m.role for m in messages): messages for messages in prompts}
    by_roles.pop(QUESTION, None)
    return list(by_roles.values())


def check_prompts(
    model: str,
    revision: str | None,
    prompts: Sequence[Messages],
    fold: bool,
    variables: Mapping[str, Any] | None = None,
) -> None:
    """Check that a model's chat template takes prompts like these and writes each of their messages. System messages
    that it doesn't take are put in front of the user's next turn, with a notice; unless `fold`, they are an error.
    `variables`: values for the template. Raises ModelError."""
    if not prompts or model in BUILTIN:  # built-in models take every order
        return
    name, tokenizer = model, tokenizer_with(model, revision, variables or {})
    does = taken(tokenizer).system
    if does != "written" and any(m.role == "system" for messages in prompts for m in messages):
        refuse_or_tell(f"the chat template of {name}", {"refused": "refuses", "left out": "leaves out"}[does], fold)
    for messages in prompts:
        chat.encode_prompt(tokenizer, messages)
        # Texts that can't be confused, since messages may repeat each other.
        marked = [m.model_copy(update={"content": f"harness-message-{i}-end"}) for i, m in enumerate(messages)]
        written = tokenizer.decode(chat.encode_prompt(tokenizer, marked))
        if lost := [i for i, m in enumerate(marked) if m.content not in written]:
            roles = ", ".join(m.role for m in messages)
            raise ModelError(
                f"{name}: its chat template leaves out message {lost[0] + 1} ({messages[lost[0]].role}) of the roles "
                f"[{roles}]; use another model, or other data"
            )


def refuse_or_tell(who: str, does: str, fold: bool) -> None:
    """Raise a ModelError about system messages that aren't taken, or tell what becomes of them."""
    if not fold:
        raise ModelError(
            f"{who} {does} system messages, which the seed has; set data.system: fold to put them in front of the "
            "user's turn, or use another model, or other data"
        )
    tell(f"{who} {does} system messages: they are put in front of the user's turn that follows")
