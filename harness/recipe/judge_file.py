"""Loads a judge from a file: a judge's fields in YAML, or a recipe with an evaluation."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from harness.components import build, component_class
from harness.errors import RecipeError
from harness.protocols import Component
from harness.recipe.checks import components_in
from harness.recipe.load import about_variables, first_error, load_recipe
from harness.recipe.reading.document import Document
from harness.recipe.reading.problems import problems_of


def load_judge(path: Path) -> Any:
    """The judge in a file: `{name: openai, model: ...}`, or a recipe's `evaluation.judge`. Relative paths are relative
    to the file's folder. Raises HarnessError of one line, also if the judge's `check` fails."""
    document = Document.read(path)
    if "evaluation" in document.data:
        recipe = load_recipe(path, check=False)
        if recipe.evaluation is None or recipe.evaluation.judge is None:
            raise RecipeError(f"{path}: evaluation has no judge; expected one in it")
        judge: Any = recipe.evaluation.judge
    else:
        judge = _build(document, path)
    for _, part in components_in(judge, ()):
        part.check()
    return judge


def _build(document: Document, path: Path) -> Component:
    fields = document.fields()
    try:
        return build("judge", fields, {"base": path.absolute().parent})
    except ValidationError as error:
        judge_class = component_class("judge", fields["name"])
        problems = problems_of(document, error.errors(include_url=False), judge_class)
        raise first_error(document, about_variables(problems, fields, document)) from None
    except PydanticCustomError as error:
        raise RecipeError(f"{path}: {error.message()}; a recipe with an evaluation also works") from None
