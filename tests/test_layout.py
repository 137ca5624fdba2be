"""The layout: which package may use which, how large one may be, the files at the front door, and where torch waits."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "harness"
TESTS = Path(__file__).parent

# Ground first. A package may import those on earlier lines only; packages on one line don't know each other.
FLOORS = [
    ["settings"],
    ["types", "stage_kinds", "errors", "memo", "outside", "outside_yaml", "printable"],
    ["figures", "stats", "files", "variables", "children"],
    ["protocols"],
    ["benchmark"],  # the seam of benchmarks: the largest of the six, and the only one that figures are declared by
    ["components"],
    ["models", "boards"],
    # What the figures of a board's rows say about methods; programs that serve models, whose address servers ask for;
    # experiment trackers, which whatever trains draws with.
    ["claims", "serving", "trackers"],
    ["data", "servers", "logprobs", "report"],
    ["seeds", "generators", "rewards", "losses", "judges", "benchmarks"],  # what people add
    ["engine"],
    ["recipe"],
    ["training", "judging", "gate"],
    ["augmentation"],
    ["stages"],
    ["pipeline"],
    ["api"],
    ["cli"],
]
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}
ADDED = frozenset(FLOORS[9])
FACES = {"harness.losses._base", "harness.losses._tensors"}  # what a loss is made of; the trainer measures with it too
EXCEPTIONS = {  # (who, what): why
    ("judging", "benchmarks"): "a judge is calibrated on AlpacaEval's recorded verdicts, by its own annotator",
    ("cli", "benchmarks"): "the annotator's name is checked before anything is read",
}
MOST_FILES, MOST_LINES, MOST_FUNCTION = 15, 300, 65
FRONT_DOOR = {
    *("types", "errors", "protocols", "components", "files", "figures", "memo", "__init__"),
    "outside",  # opens every file and reads all JSON that others wrote
    "outside_yaml",  # reads all YAML that others wrote
    "stage_kinds",  # the order in which stages run, which boards, plans and the cluster follow
    "settings",  # what sections of a recipe and components have in common
    "printable",  # what text from outside passes before it is printed or logged
    "variables",  # what `${NAME}` in a recipe may become
    "benchmark",  # beside protocols: together they would be a file of 470 lines
    "api",  # what `import harness` gives: run, plan, gate, load_board
}
TORCH = frozenset({"training", "logprobs"})  # packages whose files import torch at once; elsewhere functions do

FILES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(["harness", *(p for p in path.relative_to(ROOT).with_suffix("").parts if p != "__init__")])


def unit(module: str) -> str:
    """The package in harness/, or the file at the front door, that a module belongs to; empty for `harness` itself."""
    return module.split(".")[1] if "." in module else ""


@cache
def is_module(name: str) -> bool:
    path = ROOT.parent / name.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


def imported(tree: ast.AST) -> set[str]:
    """Full names of the modules that are imported anywhere, also inside functions and for type checking."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {part for part in parts if is_module(part)} or {node.module}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def own_imports(path: Path) -> frozenset[str]:
    return frozenset(name for name in imported(tree_of(path)) if name.startswith("harness."))


def test_imports_go_down() -> None:
    wrong = []
    for path in FILES:
        own = unit(name_of(path))
        for name in own_imports(path):
            used = unit(name)
            if used == own or not own or (own, used) in EXCEPTIONS:
                continue
            if FLOOR[used] >= FLOOR[own]:
                wrong.append(f"{name_of(path)} imports {name}, which is not below it")
            if used in ADDED and name not in FACES:
                wrong.append(f"{name_of(path)} imports {name}: use components.build")
    assert not wrong


def test_every_exception_is_needed() -> None:
    used = {(unit(name_of(path)), unit(name)) for path in FILES for name in own_imports(path)}
    assert set(EXCEPTIONS) <= used
    assert FLOOR.keys() == {unit(name_of(path)) for path in FILES if unit(name_of(path))}


def test_modules_import_each_other_in_no_circle() -> None:
    from graphlib import TopologicalSorter

    TopologicalSorter({name_of(path): own_imports(path) for path in FILES}).prepare()  # raises CycleError


def test_rooms_are_small() -> None:
    for root, most in ((ROOT, MOST_FILES), (TESTS, MOST_FILES)):
        for folder in {path.parent for path in root.rglob("*.py")} - {ROOT}:
            files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            assert folder.name == "losses" or len(files) <= most, f"{folder}: {len(files)} files"
    assert {path.stem for path in ROOT.glob("*.py")} == FRONT_DOOR
    for path in FILES:
        assert len(path.read_text().splitlines()) <= MOST_LINES, path


def test_functions_are_short() -> None:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= MOST_FUNCTION, f"{path}: {node.name}, {lines} lines"


def test_every_room_says_what_it_is() -> None:
    for folder in {path.parent for path in FILES}:
        text = ast.get_docstring(tree_of(folder / "__init__.py"))
        assert text, f"{folder} has no docstring"
        assert len(text.splitlines()) <= 12, f"{folder}: a docstring of two to ten lines"


def test_boards_are_read_without_what_made_them() -> None:
    """A board is shown, merged and gated on a machine without torch, a store or a recipe."""
    upstairs = {name for names in FLOORS[9:] for name in names} | ADDED | TORCH | {"models", "servers", "data"}
    for path in FILES:
        if unit(name_of(path)) in ("boards", "report"):
            assert not {unit(name) for name in own_imports(path)} & upstairs, name_of(path)


def at_module_level(body: list[ast.stmt]) -> Iterator[str]:
    """Names of the packages that importing a file imports: not those inside functions or for type checking."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name.split(".")[0] for name in imported(ast.Module([node], [])))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from at_module_level([*node.body, *node.orelse])
        elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
            yield from at_module_level(node.body)


def test_torch_waits() -> None:
    others = [path for path in FILES if unit(name_of(path)) not in TORCH]
    assert not [name_of(path) for path in others if "torch" in at_module_level(tree_of(path).body)]


def test_the_reading_of_imports() -> None:
    source = "import a.b\nfrom harness import models\nif TYPE_CHECKING:\n    import c\ndef f():\n    from d import e\n"
    assert imported(ast.parse(source)) == {"a.b", "harness.models", "c", "d"}
    assert set(at_module_level(ast.parse(source).body)) == {"a", "harness"}
