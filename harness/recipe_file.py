"""Reads a recipe from YAML and checks all of it before anything heavy loads.

Whatever is wrong ends in one RecipeError of one line: `recipes/x.yaml:14: methods.1.loss.bta: unknown field; did you
mean 'beta'? expected one of: beta, name`. Of several mistakes the first is told, and how many more there are.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from harness import arms, models, systems
from harness.components import Component
from harness.errors import HarnessError, RecipeError
from harness.pairs_file import split
from harness.plain_yaml import FieldPath, is_secret, one_line, shown_path
from harness.recipe import Recipe, Training
from harness.recipe_problems import Problem, problems
from harness.yaml_document import Document


def load_recipe(path: Path, overrides: Sequence[str] = (), *, check: bool = True) -> Recipe:
    """The recipe in a YAML file, with `overrides` (`a.b=c`) applied. Relative paths are relative to its folder.

    `check` also looks at what the recipe names: files, models, keys. Raises RecipeError, always of one line.
    """
    document = Document.read(path)
    for override in overrides:
        document.set(override)
    data = document.expanded(os.environ)
    try:
        recipe = Recipe.model_validate(data, context={"base": path.absolute().parent})
    except ValidationError as error:
        raise _first(document, problems(document, error.errors(include_url=False), Recipe)) from None
    if wrong := _training_problems(document, recipe):
        raise _first(document, wrong)
    if check and (wrong := _check_problems(document, recipe)):
        raise _first(document, wrong)
    return recipe


def recipe_dict(recipe: Recipe, folder: Path | None = None) -> dict[str, Any]:
    """The whole recipe as plain JSON-able data, for provenance. It has no machine's paths (a path is relative to
    `folder`, the recipe's, where it lies under it, else only a name) and no fields that may hold a secret."""
    plain: dict[str, Any] = _plain(recipe, folder)
    return plain


def _plain(value: Any, folder: Path | None) -> Any:
    if isinstance(value, BaseModel):
        return _plain({f.alias or name: getattr(value, name) for name, f in type(value).model_fields.items()}, folder)
    if isinstance(value, Mapping):
        return {str(k): _plain(v, folder) for k, v in value.items() if not is_secret(str(k))}
    if isinstance(value, (list, tuple)):
        return [_plain(v, folder) for v in value]
    if isinstance(value, (str, Path)) and Path(value).is_absolute():
        inside = folder is not None and Path(value).is_relative_to(folder.absolute())
        return Path(value).relative_to(folder.absolute()).as_posix() if folder and inside else Path(value).name
    return str(value) if isinstance(value, Path) else value


def _first(document: Document, found: Sequence[Problem]) -> RecipeError:
    """The error to raise: the first problem in the order of lines, and the number of the others."""
    first = min(found, key=lambda p: document.place(p.path).order)
    field = f"{shown_path(first.path)}: " if first.path else ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return RecipeError(f"{document.place(first.path).text}: {field}{one_line(first.message)}{more}")


def _training_problems(document: Document, recipe: Recipe) -> list[Problem]:
    """What is wrong with the methods' own training fields once they are merged into the recipe's, and then with the
    methods taken together."""
    found: list[Problem] = []
    for i, method in enumerate(recipe.methods):
        try:
            recipe.training_of(method)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            found += problems(document, errors, Training, ("methods", i, "training"))
    return found or arms.problems(recipe) or systems.problems(recipe)


def _check_problems(document: Document, recipe: Recipe) -> list[Problem]:
    """What the components and the policy's model say about the files, models and keys that they need."""
    found = []
    try:
        if recipe.given_policy:
            models.check(recipe.policy.model, recipe.policy.revision)
    except (HarnessError, OSError) as error:
        found.append(Problem(("policy", "model"), _told(error)))
    for path, component in _components(recipe, ()):
        try:
            component.check()
        except (HarnessError, OSError) as error:
            found.append(Problem(_blamed(document, path, str(error)), _told(error)))
    data = recipe.given_data
    if not found and data and all(seed.quick for seed in data.seeds):
        try:
            split([pair for seed in data.seeds for pair in seed.pairs()], data.holdout, recipe.seed)
        except HarnessError as error:
            found.append(Problem(("data", "holdout"), str(error)))
    return found


def _told(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _components(value: Any, path: FieldPath) -> Iterator[tuple[FieldPath, Component]]:
    """Every component in a recipe, with its place."""
    if isinstance(value, Component):
        yield path, value
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _components(getattr(value, name), (*path, field.alias or name))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _components(item, (*path, i))


def _blamed(document: Document, path: FieldPath, message: str) -> FieldPath:
    """The field of a component that an error is about: one whose value or telling name it has, else the component."""
    fields = document.value(document.existing(path))
    if not isinstance(fields, dict):
        return path
    texts = {k: Path(v).name for k, v in fields.items() if isinstance(v, str) and k != "name" and len(v) > 2}
    by_value = [k for k in sorted(texts, key=lambda k: -len(texts[k])) if texts[k] in message]
    by_name = [k for k in fields if "_" in k and k in message]
    return next(((*path, k) for k in by_value + by_name), path)
