"""Templates that ask a generator for one more prompt, built in or from the user's file.

A template is a YAML file with `style: chat` (`task`, `ask`) for instruct models, or `style: text` (`task`, `example`,
`stop`) for base models; `assets/prompts/` has one of each. The few-shot wording is ours: the paper's is not public.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from harness.components import RecipePath
from harness.errors import closest
from harness.files import asset
from harness.outside import LARGEST_SETTINGS, read_text, reason_of
from harness.outside_yaml import parse_yaml
from harness.types import Message, Messages
from harness.variables import Variables

BUILTIN = ("chat", "text")


class ChatTemplate(BaseModel):
    """Every example prompt is an assistant turn that answers `ask`; `task` precedes the first. The generator answers
    `ask` once more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Literal["chat"]
    """For instruct models."""
    task: str
    """What precedes the first example."""
    ask: str = Field(min_length=1)
    """The user's turn that every example prompt answers, and the generator once more."""
    stop: tuple[str, ...] = ()
    """Texts at which the generator stops."""

    def render(self, prompts: Sequence[str]) -> Messages | str:
        turns: list[Message] = []
        for prompt in prompts:
            # Not a system message, because some chat templates refuse one.
            turns.append(Message(role="user", content=self.ask if turns else f"{self.task}\n\n{self.ask}"))
            turns.append(Message(role="assistant", content=prompt))
        return (*turns, Message(role="user", content=self.ask))

    def repeats(self, text: str) -> bool:
        """Whether a generated prompt only repeats `ask`."""
        return self.ask.lower().rstrip(".!?") in text.lower()


class TextTemplate(BaseModel):
    """`task`, then `example` filled in with {number} and {prompt} for every example prompt. The generator continues
    where the next {prompt} would be, until it writes `stop`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Literal["text"]
    """For base models."""
    task: str
    """What precedes the first example."""
    example: str
    """The text of an example, with {number} and {prompt} in it."""
    stop: Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)] = Field(min_length=1)
    """Texts at which a new prompt ends."""

    @model_validator(mode="after")
    def _ends_in_a_prompt(self) -> "TextTemplate":
        if self.example.count("{prompt}") != 1:
            raise ValueError("example: expected {prompt} exactly once")
        if self.example.replace("{prompt}", "").replace("{number}", "").count("{"):
            raise ValueError("example: expected no braces except {prompt} and {number}")
        return self

    def render(self, prompts: Sequence[str]) -> Messages | str:
        examples = [self._example(number, prompt) for number, prompt in enumerate(prompts, start=1)]
        opening = self._example(len(prompts) + 1, "\0").split("\0")[0]
        return self.task + "".join(examples) + opening.rstrip(" ")

    def _example(self, number: int, prompt: str) -> str:
        return self.example.replace("{number}", str(number)).replace("{prompt}", prompt)

    def repeats(self, text: str) -> bool:
        """Whether a generated prompt only repeats the task."""
        return self.task.lower().rstrip(".!?") in text.lower()


_ADAPTER: TypeAdapter[ChatTemplate | TextTemplate] = TypeAdapter(
    Annotated[ChatTemplate | TextTemplate, Field(discriminator="style")]
)


def _load(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, (ChatTemplate, TextTemplate)):
        return value
    if isinstance(value, dict):
        return _parse(value, "template")
    if not isinstance(value, str | Variables):
        raise ValueError(
            f"expected one of {', '.join(BUILTIN)}, the path of a template file, or a mapping of its fields"
        )
    path = asset("prompts", f"{value}.yaml") if value in BUILTIN else _path(value, info)
    return load_template(path)


def _path(value: str | Variables, info: ValidationInfo) -> Path:
    path: Path = TypeAdapter(RecipePath).validate_python(value, context=info.context)
    if not path.exists():
        close = closest(value, BUILTIN) if isinstance(value, str) else None
        hint = f"; did you mean '{close}'?" if close else ""
        raise ValueError(f"no file {path}; expected a template's path, or one of {', '.join(BUILTIN)}{hint}")
    return path


def load_template(path: Path) -> ChatTemplate | TextTemplate:
    """Read a template from its file. Raises ValueError that names the file and the field."""
    try:
        content = parse_yaml(read_text(path, LARGEST_SETTINGS))
    except (OSError, ValueError) as error:
        raise ValueError(f"template {path.name} can't be read as YAML: {reason_of(error)}") from None
    return _parse(content, f"template {path.name}")


def _parse(content: Any, source: str) -> ChatTemplate | TextTemplate:
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        # pydantic adds the style to the path, which is not a field of the file.
        field = ".".join(str(part) for part in first["loc"] if part not in BUILTIN)
        raise ValueError(f"{source}: {field + ': ' if field else ''}{first['msg']}") from None


PromptTemplate = Annotated[ChatTemplate | TextTemplate, BeforeValidator(_load)]
"""A template in a recipe: the name of a built-in one, the path of a file, or a mapping of its fields."""
DEFAULT = "chat"
