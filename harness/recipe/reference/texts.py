"""What a field is, from the docstrings of its model.

In this order: the text below the field; in the docstring of its class, what follows "`field`: "; the same of the
classes above; and for a field that is a section of its own, what that section is. A sentence that only mentions a field
does not count: it says what something else is.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from harness.protocols import Component

_HEAD = re.compile(r"(?:^|(?<=[.;:)] ))((?:`\w+`(?:, and |, | and )?)+)(?=(?: None)?: )(?:: )?")
"""What begins the text about one field or several: "`limit`: ", "`chosen` and `rejected`: "."""
_SENTENCE = re.compile(r"(?<=\.) (?=[A-Z`0-9])")
_ERRORS = re.compile(r" Raises [A-Z]\w+")
"""What begins the sentence about errors, which is for programmers."""
_NAME = "Which component it is; the other fields are that component's own."


def text_of(cls: type[BaseModel], field: str) -> str | None:
    """What a field is, in one paragraph; None if no docstring says so."""
    for base in cls.__mro__:
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        if text := _below(base).get(field) or _within(base.__dict__.get("__doc__") or "", field):
            return _sentence(text)
    if field == "name" and issubclass(cls, Component):
        return _NAME
    sections = (model for model in models_in(cls.model_fields[field].annotation) if not issubclass(model, Component))
    return next(filter(None, map(summary, sections)), None)


def summary(cls: type[BaseModel]) -> str:
    """The first sentence of a class's own docstring."""
    text = " ".join(inspect.cleandoc(cls.__dict__.get("__doc__") or "").split("\n\n")[0].split())
    return _SENTENCE.split(text)[0]


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


@cache
def _below(cls: type[BaseModel]) -> dict[str, str]:
    """The texts below the fields of a class."""
    for node in _classes(cls.__module__):
        if node.name == cls.__name__:
            pairs = zip(node.body, node.body[1:], strict=False)
            return {field: text for first, then in pairs if (field := _field(first)) and (text := _constant(then))}
    return {}


@cache
def _classes(module: str) -> list[ast.ClassDef]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def _field(node: ast.stmt) -> str | None:
    return node.target.id if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else None


def _constant(node: ast.stmt) -> str | None:
    value = node.value if isinstance(node, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def _within(docstring: str, field: str) -> str | None:
    """What a class's docstring says of a field."""
    paragraphs = [" ".join(block.split()) for block in inspect.cleandoc(docstring).split("\n\n")]
    for text in paragraphs:
        heads = list(_HEAD.finditer(text))
        for head, after in zip(heads, [*heads[1:], None], strict=False):
            if f"`{field}`" in head[1]:
                return text[head.end() : after.start() if after else None]
    return None


def _sentence(text: str) -> str:
    text = _ERRORS.split(" ".join(text.split()))[0].rstrip(" ;")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ":")) else ".")
