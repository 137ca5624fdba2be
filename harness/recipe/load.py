"""Reads a recipe from YAML and checks all of it before anything heavy loads.

Every mistake is a RecipeError of one line: `recipes/x.yaml:14: methods.1.loss.bta: unknown field; did you mean 'beta'?
expected one of: beta, name`. Of several mistakes the message shows the first and counts the others.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError

from harness.errors import RecipeError, is_installed, nearest, quoted
from harness.printable import is_secret, printable
from harness.recipe.arms import launch_problems, method_problems
from harness.recipe.checks import check_problems
from harness.recipe.evaluation import CHECKPOINT_AXIS
from harness.recipe.reading.document import Document
from harness.recipe.reading.plain_yaml import LONGEST_MESSAGE, FieldPath, shown_path
from harness.recipe.reading.problems import Problem, problems_of
from harness.recipe.recipe import Recipe
from harness.recipe.systems import system_problems
from harness.recipe.training import Training
from harness.serving.engine import Named, engines_in
from harness.variables import Filled, as_written, refusal, unfilled

if TYPE_CHECKING:
    from harness.recipe.sweep import Axis, Sweep


UNLIKE = ("evaluation.judge", "evaluation.benchmarks")
"""How the fields begin that decide how rows are judged."""


class Cell(NamedTuple):
    """One recipe of a sweep. `settings`: the names of its values by axis; empty without a sweep. `auto_dtype`: what
    `dtype: auto` stands for, and why; empty where it isn't used."""

    id: str
    settings: dict[str, str]
    recipe: Recipe
    auto_dtype: str = ""


class Study(NamedTuple):
    """The recipes of a file: one, or the cells of a sweep. `axes`: what the sweep varies; empty without a sweep.
    `file`: where they stand as they are run; None for those that were edited on the way, or were never in a file."""

    name: str
    axes: "tuple[Axis, ...]"
    cells: tuple[Cell, ...]
    file: Path | None = None

    def only(self, cell_id: str) -> "Study":
        """The study of one cell, with its own board. Raises RecipeError."""
        return Study(f"{self.name}.{cell_id}", (), (self.cell(cell_id),), self.file)

    def cell(self, cell_id: str) -> Cell:
        """The cell with an id. Raises RecipeError."""
        cells = {cell.id: cell for cell in self.cells}
        if cell_id not in cells:
            reason = f"no cell {quoted(cell_id)}; {nearest(cell_id, cells)}" if self.axes else "the recipe has no sweep"
            raise RecipeError(f"recipe {self.name}: {reason}")
        return cells[cell_id]


def load_recipe(path: Path, overrides: Sequence[str] = (), *, check: bool = True) -> Recipe:
    """The recipe in a YAML file without a sweep; see `load_study`. Raises RecipeError, always of one line."""
    study = load_study(path, overrides, check=check)
    if study.axes:
        raise RecipeError(f"{path}: expected a single recipe, but its sweep makes {len(study.cells)}; remove `sweep`")
    return study.cells[0].recipe


def load_study(
    source: Path | Mapping[str, Any], overrides: Sequence[str] = (), *, check: bool = True, on_gpu: bool = False
) -> Study:
    """The recipe in a YAML file, or those of its sweep, after applying `overrides` (`a.b=c`). `source`: the file, or
    its data. Relative paths are relative to the file's folder, or for data to the working folder.

    `check`: also check the files, models and keys that the recipe names. `on_gpu`: `dtype: auto` is a GPU's. Raises
    RecipeError, always of one line.
    """
    document = Document.of(source) if isinstance(source, Mapping) else Document.read(source)
    for override in overrides:
        document.set(override)
    base = Path.cwd() if isinstance(source, Mapping) else source.absolute().parent
    file = None if isinstance(source, Mapping) or overrides else source
    auto_dtype: set[str] = set()
    context = {"base": base, "components": {}, "filled": document.filled, "auto_dtype": auto_dtype}
    context |= {"on_gpu": on_gpu}
    sweep = _sweep(document)
    if sweep is None:
        recipe = _recipe(document.varied(()), context, check, set())
        _check_axis(document, recipe, ())
        _check_choice(document, recipe, ())
        return Study(recipe.name, (), (Cell("", {}, recipe, "; ".join(auto_dtype)),), file)
    axes = tuple(sweep.axes())
    try:
        combinations = sweep.combinations()
    except ValueError as error:
        raise first_error(document, [Problem(("sweep",), str(error))]) from None
    checked: set[str] = set()
    cells = []
    for combination in combinations:
        edits = [(field, value, _source(document, path)) for field, value, path in combination.edits]
        try:
            recipe = _recipe(document.varied(edits), context, check, checked)
        except RecipeError as error:
            raise RecipeError(f"{error} (in cell {combination.id})") from None
        cells.append(Cell(combination.id, combination.settings, recipe, "; ".join(auto_dtype)))
    names = {cell.recipe.name for cell in cells}
    if len(names) > 1:
        raise first_error(document, [Problem(("sweep",), "`name` names the board of all cells and can't be varied")])
    _check_axis(document, cells[0].recipe, axes)
    _check_choice(document, cells[0].recipe, axes)
    return Study(cells[0].recipe.name, axes, tuple(cells), file)


def _check_axis(document: Document, recipe: Recipe, axes: "Sequence[Axis]") -> None:
    """Raises RecipeError for a primary axis that nothing is varied along, or whose rows can't be compared."""
    if recipe.primary is None or (name := recipe.primary.axis) is None:
        return
    varied = {axis.name: axis.fields for axis in axes if axis.fields != ("seed",)}
    known = [*varied, *(["method"] if len(recipe.methods) > 1 else [])]
    problem = None
    if name not in known:
        expected = nearest(name, known, "expected one of") if known else "add a sweep, or remove axis"
        problem = f"{quoted(name)} is not varied; {expected}"
    elif any(field.startswith(UNLIKE) for field in varied.get(name, ())):
        problem = (
            f"rows that differ in {quoted(name)} are not judged alike and can't be compared; expected another axis"
        )
    if problem:
        raise first_error(document, [Problem(("primary", "axis"), problem)])


def _check_choice(document: Document, recipe: Recipe, axes: "Sequence[Axis]") -> None:
    """Raises RecipeError where `evaluation.select` has nothing to choose among, or candidates would be judged unlike
    each other or chosen in several ways."""
    if recipe.evaluation is None or (select := recipe.evaluation.select) is None:
        return
    varied = {axis.name: axis.fields for axis in axes if axis.fields != ("seed",)}
    unknown = [name for name in select.over if name != CHECKPOINT_AXIS and name not in varied]
    unlike = [name for name in select.over if any(f.startswith(UNLIKE) for f in varied.get(name, ()))]
    at: FieldPath = ("evaluation", "select")
    if not recipe.methods:
        problem = "nothing is trained, so that there is nothing to choose; add methods, or leave out select"
    elif unknown:
        expected = nearest(unknown[0], [CHECKPOINT_AXIS, *varied], "expected one of")
        at, problem = (*at, "over"), f"nothing varies {quoted(unknown[0])}; {expected}"
    elif unlike:
        problem = f"rows that differ in {quoted(unlike[0])} are not judged alike; choose over another axis"
    elif any(f == "evaluation" or f.startswith("evaluation.select") for fields in varied.values() for f in fields):
        problem = "a sweep has one way to choose; give it outside of the sweep"
    else:
        return
    raise first_error(document, [Problem(at, problem)])


def _source(document: Document, path: FieldPath) -> FieldPath:
    """The path of a sweep's value in the document: in its grid, or in the sweep itself."""
    inner: FieldPath = ("sweep", *path)
    outer: FieldPath = ("sweep", *path[1:])
    return outer if document.existing(outer) == outer and document.existing(inner) != inner else inner


def _sweep(document: Document) -> "Sweep | None":
    """The document's sweep; None if it has none or an empty one."""
    if not (fields := document.data.get("sweep")):
        return None
    from harness.recipe.sweep import Sweep  # here, because most recipes have none and are checked faster

    try:
        return Sweep.model_validate(fields)
    except ValidationError as error:
        problems = problems_of(document, error.errors(include_url=False), Sweep, ("sweep",))
        raise first_error(document, problems) from None


def _recipe(document: Document, context: dict[str, Any], check: bool, checked: set[str]) -> Recipe:
    """The recipe of a document without a sweep. `checked`: what has passed its check already; added to."""
    fields = document.fields()
    engines = engines_in(fields, context)
    # Components are the same object in all cells that have the same engines, too.
    components = context["components"].setdefault(repr(engines), {})
    context = context | {"engines": engines, "components": components}
    try:
        recipe = Recipe.model_validate(fields, context=context)
    except ValidationError as error:
        problems = problems_of(document, error.errors(include_url=False), Recipe)
        raise first_error(document, about_variables(problems, fields, document)) from None
    if problems := about_variables(_training_problems(document, recipe), fields, document):
        raise first_error(document, problems)
    if check and (problems := check_problems(document, recipe, checked)):
        raise first_error(document, problems)
    return recipe


def about_variables(problems: list[Problem], fields: Any, document: Document) -> list[Problem]:
    """The problems of a recipe's fields, with better words for variables in fields that take none."""
    elsewhere = {path: refusal(written) for path, written in unfilled(fields, document.filled)}
    if not problems:
        return [Problem(path, message) for path, message in elsewhere.items()]
    return [
        next(
            (Problem(at, text) for at, text in elsewhere.items() if path and at[: len(path)] == path),
            Problem(path, said),
        )
        for path, said in problems
    ]


def recipe_dict(recipe: Recipe, folder: Path | None = None) -> dict[str, Any]:
    """The whole recipe as plain JSON-able data, for provenance, without fields that may hold a secret. Texts with
    variables are as written. Absolute paths become relative to `folder` (the recipe's) if they are inside it, and
    otherwise a bare file name."""
    plain: dict[str, Any] = _plain(recipe, folder, recipe.filled)
    return plain


def _plain(value: Any, folder: Path | None, filled: Filled) -> Any:
    if isinstance(value, Named):
        return value.name
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return _plain({fields[name].alias or name: part for name, part in value}, folder, filled)
    if isinstance(value, Mapping):
        return {str(k): _plain(v, folder, filled) for k, v in value.items() if not is_secret(str(k))}
    if isinstance(value, (list, tuple)):
        return [_plain(v, folder, filled) for v in value]
    if isinstance(value, (str, Path)):
        value = next((written for written, values in filled.items() if str(value) in values), value)
    if isinstance(value, (str, Path)) and Path(value).is_absolute():
        inside = folder is not None and Path(value).is_relative_to(folder.absolute())
        return Path(value).relative_to(folder.absolute()).as_posix() if folder and inside else Path(value).name
    return str(value) if isinstance(value, Path) else value


def first_error(document: Document, problems: Sequence[Problem]) -> RecipeError:
    """The error to raise: the first problem by line, and the number of the others."""
    first = min(problems, key=lambda p: document.location(p.path).order)
    field = f"{shown_path(first.path)}: " if first.path else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message = printable(as_written(first.message, document.filled), LONGEST_MESSAGE)
    return RecipeError(f"{document.location(first.path).text}: {field}{message}{more}")


def _training_problems(document: Document, recipe: Recipe) -> list[Problem]:
    """Problems of the methods' training fields, merged into the recipe's; if there are none, those that involve several
    methods, systems or judges."""
    problems: list[Problem] = []
    for i, method in enumerate(recipe.methods):
        try:
            recipe.training_of(method)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            problems += problems_of(document, errors, Training, ("methods", i, "training"))
    return (
        problems
        or method_problems(recipe)
        or launch_problems(recipe)
        or system_problems(recipe)
        or _judge_problems(recipe)
    )


def _judge_problems(recipe: Recipe) -> list[Problem]:
    """Judges that only compare two answers, on benchmarks that ask for something else."""
    problems: list[Problem] = []
    evaluation = recipe.evaluation
    if evaluation is None:
        return problems
    # One whose package is missing can't say what it asks for; `check_problems` says what is missing.
    for benchmark in (b for b in evaluation.judged if all(map(is_installed, b.needs))):
        name = benchmark.name
        judge = evaluation.judge_of(benchmark)
        comparing = [j.name for j in (judge, *judge.members) if j.reads_candidates]
        if comparing and not benchmark.compares:
            overridden = name in evaluation.judges
            path: FieldPath = ("evaluation", "judges", name) if overridden else ("evaluation", "judge")
            reason = f"'{comparing[0]}' only compares two answers, and {name} asks for something else here"
            problems.append(Problem(path, f"{reason}: give it its own judge in evaluation.judges.{name}"))
        gold = evaluation.gold.judge if evaluation.gold else None
        if gold is not None and not benchmark.compares and any(j.reads_candidates for j in (gold, *gold.members)):
            reason = f"'{gold.name}' only compares two answers, and {name} asks for something else here"
            problems.append(Problem(("evaluation", "gold", "judge"), f"{reason}: name another judge"))
    return problems
