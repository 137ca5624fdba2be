"""Reads a recipe from YAML and checks all of it before anything heavy loads.

Whatever is wrong ends in one RecipeError of one line: `recipes/x.yaml:14: methods.1.loss.bta: unknown field; did you
mean 'beta'? expected one of: beta, name`. Of several mistakes the first is told, and how many more there are.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError

from harness.data.read import split
from harness.errors import HarnessError, RecipeError, nearest, quoted
from harness.models import load as models
from harness.protocols import Component
from harness.recipe.arms import method_problems
from harness.recipe.document import Document
from harness.recipe.plain_yaml import FieldPath, is_secret, one_line, shown_path
from harness.recipe.problems import Problem, problems
from harness.recipe.recipe import Recipe
from harness.recipe.systems import system_problems
from harness.recipe.training import Training

if TYPE_CHECKING:
    from harness.recipe.sweep import Axis, Sweep


class Cell(NamedTuple):
    """One recipe of a sweep. `settings`: its values' names by axis; empty where the recipe has no sweep."""

    id: str
    settings: dict[str, str]
    recipe: Recipe


class Study(NamedTuple):
    """What a recipe's file asks for: one recipe, or those of a sweep. `axes`: what is varied."""

    name: str
    axes: "tuple[Axis, ...]"
    cells: tuple[Cell, ...]

    def only(self, wanted: str) -> "Study":
        """The study of one cell, which has a board of its own. Raises RecipeError."""
        return Study(f"{self.name}.{wanted}", (), (self.cell(wanted),))

    def cell(self, wanted: str) -> Cell:
        """The cell of an id. Raises RecipeError."""
        known = {cell.id: cell for cell in self.cells}
        if wanted not in known:
            what = f"no cell {quoted(wanted)}; {nearest(wanted, known)}" if self.axes else "the recipe has no sweep"
            raise RecipeError(f"recipe {self.name}: {what}")
        return known[wanted]


def load_recipe(path: Path, overrides: Sequence[str] = (), *, check: bool = True) -> Recipe:
    """The recipe in a YAML file that has no sweep: see `load_study`. Raises RecipeError, always of one line."""
    study = load_study(path, overrides, check=check)
    if study.axes:
        raise RecipeError(f"{path}: sweep: one recipe is needed here, and this makes {len(study.cells)}; remove it")
    return study.cells[0].recipe


def load_study(source: Path | Mapping[str, Any], overrides: Sequence[str] = (), *, check: bool = True) -> Study:
    """The recipe in a YAML file, or those of its sweep, with `overrides` (`a.b=c`) applied first. Relative paths are
    relative to its folder. Instead of a file: its data, whose relative paths are relative to the working folder.

    `check` also looks at what a recipe names: files, models, keys. Raises RecipeError, always of one line.
    """
    document = Document.of(source) if isinstance(source, Mapping) else Document.read(source)
    for override in overrides:
        document.set(override)
    base = Path.cwd() if isinstance(source, Mapping) else source.absolute().parent
    context = {"base": base, "components": {}}
    sweep = _sweep(document)
    if sweep is None:
        recipe = _recipe(document.varied(()), context, check, set())
        return Study(recipe.name, (), (Cell("", {}, recipe),))
    axes = tuple(sweep.axes())
    try:
        combinations = sweep.combinations()
    except ValueError as error:
        raise first_of(document, [Problem(("sweep",), str(error))]) from None
    checked: set[str] = set()
    cells = []
    for combination in combinations:
        edits = [(field, value, _source(document, place)) for field, value, place in combination.edits]
        try:
            recipe = _recipe(document.varied(edits), context, check, checked)
        except RecipeError as error:
            raise RecipeError(f"{error} (in cell {combination.id})") from None
        cells.append(Cell(combination.id, combination.settings, recipe))
    names = {cell.recipe.name for cell in cells}
    if len(names) > 1:
        raise first_of(document, [Problem(("sweep",), "`name` is the board's, of all cells: it can't be varied")])
    return Study(cells[0].recipe.name, axes, tuple(cells))


def _source(document: Document, place: FieldPath) -> FieldPath:
    """Where a value of a sweep stands: in its grid, or in the sweep itself."""
    inner: FieldPath = ("sweep", *place)
    outer: FieldPath = ("sweep", *place[1:])
    return outer if document.existing(outer) == outer and document.existing(inner) != inner else inner


def _sweep(document: Document) -> "Sweep | None":
    """The document's sweep; None where it has none, or an empty one."""
    if not (given := document.data.get("sweep")):
        return None
    from harness.recipe.sweep import Sweep  # here: most recipes have none, and are to be checked in a moment

    try:
        return Sweep.model_validate(given)
    except ValidationError as error:
        found = problems(document, error.errors(include_url=False), Sweep, ("sweep",))
        raise first_of(document, found) from None


def _recipe(document: Document, context: dict[str, Any], check: bool, checked: set[str]) -> Recipe:
    """The recipe of a document without a sweep. `checked`: what needs no second look, added to."""
    try:
        recipe = Recipe.model_validate(document.expanded(os.environ), context=context)
    except ValidationError as error:
        raise first_of(document, problems(document, error.errors(include_url=False), Recipe)) from None
    if wrong := _training_problems(document, recipe):
        raise first_of(document, wrong)
    if check and (wrong := _check_problems(document, recipe, checked)):
        raise first_of(document, wrong)
    return recipe


def recipe_dict(recipe: Recipe, folder: Path | None = None) -> dict[str, Any]:
    """The whole recipe as plain JSON-able data, for provenance. It has no machine's paths (a path is relative to
    `folder`, the recipe's, where it lies under it, else only a name) and no fields that may hold a secret."""
    plain: dict[str, Any] = _plain(recipe, folder)
    return plain


def _plain(value: Any, folder: Path | None) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return _plain({fields[name].alias or name: part for name, part in value}, folder)
    if isinstance(value, Mapping):
        return {str(k): _plain(v, folder) for k, v in value.items() if not is_secret(str(k))}
    if isinstance(value, (list, tuple)):
        return [_plain(v, folder) for v in value]
    if isinstance(value, (str, Path)) and Path(value).is_absolute():
        inside = folder is not None and Path(value).is_relative_to(folder.absolute())
        return Path(value).relative_to(folder.absolute()).as_posix() if folder and inside else Path(value).name
    return str(value) if isinstance(value, Path) else value


def first_of(document: Document, found: Sequence[Problem]) -> RecipeError:
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
    return found or method_problems(recipe) or system_problems(recipe) or _judge_problems(recipe)


def _judge_problems(recipe: Recipe) -> list[Problem]:
    """Judges that can't answer what their benchmark asks: of two answers, by one of two replies; or anything else."""
    found: list[Problem] = []
    evaluation = recipe.evaluation
    if evaluation is None:
        return found
    for benchmark in evaluation.benchmarks:
        name = benchmark.name
        judge = evaluation.judge_of(benchmark)
        comparing = [j.name for j in (judge, *judge.members) if j.reads_candidates]
        if comparing and not benchmark.compares:
            own = name in evaluation.judges
            path: FieldPath = ("evaluation", "judges", name) if own else ("evaluation", "judge")
            asks = (
                f"'{comparing[0]}' compares two answers by one of two replies, and {name} asks for something else here"
            )
            found.append(Problem(path, f"{asks}: give it a judge of its own in evaluation.judges.{name}"))
    return found


def _check_problems(document: Document, recipe: Recipe, checked: set[str]) -> list[Problem]:
    """What the components and the policy's model say about the files, models and keys that they need."""
    found = []

    def look(path: FieldPath, what: object, check: Callable[[], object]) -> None:
        # The cells of a sweep have most of it in common.
        if (seen := repr(what)) in checked:
            return
        try:
            check()
        except (HarnessError, OSError) as error:
            found.append(Problem(_blamed(document, path, str(error)), _told(error)))
        checked.add(seen)

    if policy := recipe.policy:
        look(("policy", "model"), policy, lambda: models.check(policy.model, policy.revision))
    for path, component in components_in(recipe, ()):
        look(path, component, component.check)
    data = recipe.data
    if not found and data and all(seed.quick for seed in data.seeds):

        def held_out() -> None:
            split([pair for seed in data.seeds for pair in seed.pairs()], data.holdout, recipe.seed)

        look(("data", "holdout"), (data.seeds, data.holdout, recipe.seed), held_out)
    return found


def _told(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def components_in(value: Any, path: FieldPath) -> Iterator[tuple[FieldPath, Component]]:
    """Every component in a recipe, with its place."""
    if isinstance(value, Component):
        yield path, value
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        for name, part in value:
            yield from components_in(part, (*path, fields[name].alias or name))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from components_in(item, (*path, i))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from components_in(item, (*path, key))


def models_of(recipe: Recipe) -> list[str]:
    """The models that this process loads for a recipe: its policy, and those of its components."""
    own = [recipe.policy.model] if recipe.policy else []
    return own + [model for _, part in components_in(recipe, ()) for model in part.models_in_process()]


def _blamed(document: Document, path: FieldPath, message: str) -> FieldPath:
    """The field of a component that an error is about: one whose value or telling name it has, else the component."""
    fields = document.value(document.existing(path))
    if not isinstance(fields, dict):
        return path
    texts = {k: Path(v).name for k, v in fields.items() if isinstance(v, str) and k != "name" and len(v) > 2}
    by_value = [k for k in sorted(texts, key=lambda k: -len(texts[k])) if texts[k] in message]
    by_name = [k for k in fields if "_" in k and k in message]
    return next(((*path, k) for k in by_value + by_name), path)
