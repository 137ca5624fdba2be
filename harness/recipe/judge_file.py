"""A judge from a file: a judge's own fields in YAML, or a recipe, whose evaluation has one."""

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from harness.components import build, component_class
from harness.errors import RecipeError
from harness.protocols import Component
from harness.recipe.document import Document
from harness.recipe.load import components_in, first_of, load_recipe
from harness.recipe.problems import problems


def load_judge(path: Path) -> Any:
    """The judge that a file names: `{name: openai, model: ...}`, or a recipe's `evaluation.judge`. Relative paths are
    relative to the file's folder. Raises HarnessError, of one line, also for what `check` of the judge finds."""
    document = Document.read(path)
    if "evaluation" in document.data:
        recipe = load_recipe(path, check=False)
        if recipe.evaluation is None:
            raise RecipeError(f"{path}: evaluation is empty; expected a judge in it")
        judge: Any = recipe.evaluation.judge
    else:
        judge = _built(document, path)
    for _, part in components_in(judge, ()):
        part.check()
    return judge


def _built(document: Document, path: Path) -> Component:
    fields = document.expanded(os.environ)
    try:
        return build("judge", fields, {"base": path.absolute().parent})
    except ValidationError as error:
        kind = component_class("judge", fields["name"])
        raise first_of(document, problems(document, error.errors(include_url=False), kind)) from None
    except PydanticCustomError as error:
        raise RecipeError(f"{path}: {error.message()}; a recipe with an evaluation will do, too") from None
