"""The recipe's section on the model to train, and the names of its rows."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from harness.components import ModelReference
from harness.errors import ModelError
from harness.models.builtin.fetch import BUILTIN
from harness.models.conversation import before_answers, tokenizer_with
from harness.models.load import Dtype
from harness.models.load import identity as model_identity
from harness.models.processor import AutoDtype
from harness.models.templates.answered import notice
from harness.models.templates.checking import tell
from harness.models.templates.stripping import count_thoughts
from harness.models.templates.thoughts import Thinking
from harness.models.templates.variables import TemplateVariables
from harness.types import RecipeSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def _safe_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", value):
        raise ValueError("expected letters, digits, '.', '_' or '-', starting with a letter or digit, at most 80")
    return value


Name = Annotated[str, BeforeValidator(lambda v: _safe_name(v) if isinstance(v, str) else v)]
"""A name that is also used as a folder or file name."""


class Policy(RecipeSection):
    """The model to train. In its untrained state it is also the reference model of the preference losses.
    `chat_template_kwargs`: values for variables of its chat template, such as `{enable_thinking: false}`, in training,
    answers and scoring alike. `thinking`: what becomes of thoughts that it writes before an answer (see
    `harness.models.templates.thoughts`). `strip`: judges, reward models, the next turn and training see answers without
    them; `keep`: with them; `refuse`: an answer with a thought is an error."""

    model: ModelReference
    """A built-in name, a hub id, or a local folder."""
    revision: str | None = None
    """Of a hub id: a commit, tag or branch; None: the newest that is here, or on the hub."""
    dtype: AutoDtype = Field("auto", validate_default=True)
    """Of the weights in memory; `auto`: bfloat16 where this machine is fast at it, else float32."""
    chat_template_kwargs: TemplateVariables = Field(default_factory=dict)
    thinking: Thinking = "strip"

    @field_validator("dtype")
    @classmethod
    def _not_float16(cls, value: Dtype) -> Dtype:
        if value == "float16":
            raise ValueError("small gradients are lost in float16; expected bfloat16 or float32")
        return value


def policy_identity(policy: Policy) -> dict[str, Any]:
    """The untrained policy's part of a stage key."""
    values = policy.chat_template_kwargs
    variables = {"chat_template_kwargs": values} if values else {}
    return {"dtype": policy.dtype, **model_identity(policy.model, policy.revision), **variables}


def scored_identity(policy: Policy) -> dict[str, Any]:
    """`policy_identity` for stages that train on given answers, or score them."""
    return policy_identity(policy) | before_answers(policy.model, policy.revision, policy.chat_template_kwargs)


def check_template(policy: Policy, *, trained: bool, sampled: bool = False) -> None:
    """Check that the chat template has the variables that the recipe sets, and begins answers as the policy does; tell
    how they begin where that isn't the prompt's end. `trained`: the policy is; `sampled`: on sampled texts. Raises
    ModelError."""
    if policy.model in BUILTIN and not policy.chat_template_kwargs:
        return
    said = notice(policy_tokenizer(policy))
    if not (said and trained):
        return
    if sampled and policy.thinking == "keep":
        raise ModelError(f"{said}, and so would sampled texts with the thoughts that they keep; use thinking: strip")
    tell(said)


def check_given_answers(policy: Policy, answers: Sequence[str]) -> None:
    """Check that no given answer would be trained on, or scored, with a thought of its own behind the one that the chat
    template writes before answers. Raises ModelError."""
    if policy.model in BUILTIN:
        return
    said = notice(policy_tokenizer(policy))
    if said and (count := count_thoughts(answers)):
        raise ModelError(
            f"{said}, and {count:,} of the seed's {len(answers):,} answers have a thought of their own, which would "
            "stand behind it; remove the thoughts from the data"
        )


def policy_tokenizer(policy: Policy) -> "PreTrainedTokenizerBase":
    """The policy's tokenizer, with the recipe's values for its chat template. Raises ModelError."""
    return tokenizer_with(policy.model, policy.revision, policy.chat_template_kwargs)
