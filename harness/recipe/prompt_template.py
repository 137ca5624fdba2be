"""How a generator is asked for one more prompt: a template file, ours or the user's.

A YAML file with `style: chat` (`task`, `ask`) for instruct models, or `style: text` (`task`, `example`, `stop`) for
base models; `assets/prompts/` has one of each. The few-shot form is ours: the paper's text is not public.
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
from harness.types import Message, Messages

BUILTIN = ("chat", "text")


class ChatTemplate(BaseModel):
    """Every shown prompt is an assistant's turn that answers `ask`; `task` stands before the first. The generator
    answers `ask` once more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Literal["chat"]
    task: str
    ask: str = Field(min_length=1)
    stop: tuple[str, ...] = ()

    def render(self, shown: Sequence[str]) -> Messages | str:
        turns: list[Message] = []
        for prompt in shown:
            # Not a system message: some chat templates refuse one.
            turns.append(Message(role="user", content=self.ask if turns else f"{self.task}\n\n{self.ask}"))
            turns.append(Message(role="assistant", content=prompt))
        return (*turns, Message(role="user", content=self.ask))

    def repeats(self, text: str) -> bool:
        """Whether a written prompt is the request for one."""
        return self.ask.lower().rstrip(".!?") in text.lower()


class TextTemplate(BaseModel):
    """`task`, then `example` with {number} and {prompt} for every shown prompt; the generator goes on where the next
    {prompt} would stand, until it writes `stop`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Literal["text"]
    task: str
    example: str
    stop: Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)] = Field(min_length=1)

    @model_validator(mode="after")
    def _ends_in_a_prompt(self) -> "TextTemplate":
        if self.example.count("{prompt}") != 1:
            raise ValueError("example: expected {prompt} in it, once")
        if self.example.replace("{prompt}", "").replace("{number}", "").count("{"):
            raise ValueError("example: expected no other braces than {prompt} and {number}")
        return self

    def render(self, shown: Sequence[str]) -> Messages | str:
        examples = [self._example(number, prompt) for number, prompt in enumerate(shown, start=1)]
        opening = self._example(len(shown) + 1, "\0").split("\0")[0]
        return self.task + "".join(examples) + opening.rstrip(" ")

    def _example(self, number: int, prompt: str) -> str:
        return self.example.replace("{number}", str(number)).replace("{prompt}", prompt)

    def repeats(self, text: str) -> bool:
        """Whether a written prompt is the task itself."""
        return self.task.lower().rstrip(".!?") in text.lower()


_ADAPTER: TypeAdapter[ChatTemplate | TextTemplate] = TypeAdapter(
    Annotated[ChatTemplate | TextTemplate, Field(discriminator="style")]
)


def _load(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, (ChatTemplate, TextTemplate)):
        return value
    if isinstance(value, dict):
        return _checked(value, "template")
    if not isinstance(value, str):
        raise ValueError(f"expected one of {', '.join(BUILTIN)}, the path of a template file, or its fields")
    path = asset("prompts", f"{value}.yaml") if value in BUILTIN else _path(value, info)
    return load_template(path)


def _path(value: str, info: ValidationInfo) -> Path:
    path: Path = TypeAdapter(RecipePath).validate_python(value, context=info.context)
    if not path.is_file():
        close = closest(value, BUILTIN)
        hint = f"; did you mean '{close}'?" if close else ""
        raise ValueError(f"no file {path}; expected a template's path, or one of {', '.join(BUILTIN)}{hint}")
    return path


def load_template(path: Path) -> ChatTemplate | TextTemplate:
    """A template from its file. Raises ValueError naming the file and the field."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"template {path.name} can't be read as YAML: {reason}") from None
    return _checked(content, f"template {path.name}")


def _checked(content: Any, what: str) -> ChatTemplate | TextTemplate:
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        # The discriminator's name is no part of the file.
        field = ".".join(str(part) for part in first["loc"] if part not in BUILTIN)
        raise ValueError(f"{what}: {field + ': ' if field else ''}{first['msg']}") from None


PromptTemplate = Annotated[ChatTemplate | TextTemplate, BeforeValidator(_load)]
"""A template in a recipe: the name of one that ships, the path of a file, or a mapping of its fields."""
DEFAULT = "chat"
