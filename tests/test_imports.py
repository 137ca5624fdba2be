"""Imports go one way, down the levels of the design, and only training/ imports torch at once."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "harness"
COMPONENTS = frozenset({"seeds", "generators", "rewards", "losses", "judges", "benchmarks"})

# A module may import from its own level and from lower ones; a new module gets its line here.
LEVELS = [
    {
        "types",
        "errors",
        "stats",
        "noninferiority",
        "paired",
        "elo",
        "paths",
        "provenance",
        "memo",
        "lease",
        "interrupts",
    },
    {
        "protocols",
        "group_scores",
        "models",
        "builtin_models",
        "workload",
        "chat",
        "plain_yaml",
        "yaml_document",
        "datafiles",
        "batching",
        "sampling",
        "kv_cache",
        "decoding",
        "choices",
    }
    | {
        "pairs_file",
        "pairs_rows",
        "row_files",
        "hub_files",
        "alpaca_files",
        "mt_files",
        "alpaca_data",
        "alpaca_figures",
        "alpaca_package",
        "public_leaderboard",
        "mt_prompts",
        "mt_data",
        "mt_verdicts",
        "annotator",
        "length_control",
        "calibration_sample",
        "calibration_figures",
    }
    | {
        "pace",
        "spending",
        "leaks",
        "prompt_filters",
        "prompting",
        "ranking",
        "scoring",
        "admission",
        "diversity",
        "perplexity",
        "guards",
        "embedding",
    },
    {"components", "served", "seed_set", "preference_loss", "trl_loss", *COMPONENTS - {"rewards"}},
    {
        "recipe",
        "recipe_metrics",
        "recipe_sweep",
        "recipe_data",
        "recipe_training",
        "recipe_problems",
        "recipe_file",
        "prompt_template",
        "leak_check",
    }
    | {"arms", "systems", "store", "journal", "stages", "formats", "dataset_files", "hub_upload"},
    {
        "training",
        "judging",
        "judge_costs",
        "judge_file",
        "panels",
        "calibration",
        "leaderboard",
        "board_rows",
        "board_notes",
        "outcomes",
        "board_markup",
        "board_pairs",
        "board_data",
        "board_seeds",
        "board_text",
        "board_sweep",
        "effects",
        "board_terminal",
    },
    {"rewards"},  # a policy is one too: log-probabilities are training's; no file imports a component
    {
        "augment",
        "responses",
        "rank",
        "agreement",
        "pool",
        "scores",
        "train",
        "reference",
        "train_methods",
        "evaluate",
        "recorded",
    }
    | {"dataset", "dataset_card", "calibrating"},
    {"plan"},
    {"sweep"},
    {"estimates"},
    {
        "execute",
        "ray_cluster",
        "ray_execute",
        "ray_work",
        "public_rows",
        "entries",
        "public_data",
        "console",
        "plan_view",
    },
    {"report", "cache", "board_merge", "gate", "gate_report", "baseline", "gates"},
    {"cli", "cli_run", "cli_boards", "cli_cache", "cli_calibrate", "cli_data"},
]
LEVEL = {unit: level for level, units in enumerate(LEVELS) for unit in units}
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__")


def imported(tree: ast.AST) -> set[str]:
    """Full names of the modules that a file imports anywhere, also inside functions and for type checking."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module
            # `from harness import models` imports the module, `from harness import __version__` a name.
            submodules = node.module == "harness"
            found |= {f"harness.{a.name}" for a in node.names if is_module(a.name)} if submodules else {node.module}
    return found


def is_module(name: str) -> bool:
    return (ROOT / f"{name}.py").exists() or (ROOT / name).is_dir()


def own_imports(path: Path) -> set[str]:
    names = imported(ast.parse(path.read_text()))
    return {n.removeprefix("harness.") for n in names if n.startswith("harness.")}


def unit(module: str) -> str:
    """What has a level: a file of harness/, or a folder."""
    return module.split(".")[0]


def test_the_table_is_the_package() -> None:
    there = {unit(module_name(path)) for path in FILES}
    assert there == LEVEL.keys(), f"mend LEVELS: {sorted(there ^ LEVEL.keys())}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_down(path: Path) -> None:
    own = unit(module_name(path))
    for name in own_imports(path):
        assert LEVEL[unit(name)] <= LEVEL[own], f"{module_name(path)} imports {name}, which is above it"
        assert unit(name) not in COMPONENTS, f"{module_name(path)} imports the component {name}: use components.build"


def test_no_cycles() -> None:
    graph = {module_name(path): own_imports(path) for path in FILES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")
    assert order.index("types") < order.index("recipe_file")


def at_module_level(body: list[ast.stmt]) -> set[str]:
    """Names of the packages that importing a file imports: not those inside functions or for type checking."""
    found: set[str] = set()
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {name.split(".")[0] for name in imported(ast.Module([node], []))}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            found |= at_module_level([*node.body, *node.orelse])
        elif isinstance(node, (ast.Try, ast.With, ast.ClassDef)):
            found |= at_module_level(node.body)
    return found


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_torch_waits(path: Path) -> None:
    if unit(module_name(path)) != "training":
        assert "torch" not in at_module_level(ast.parse(path.read_text()).body)


def test_the_reading_of_imports() -> None:
    source = "import a.b\nfrom harness import models\nif TYPE_CHECKING:\n    import c\ndef f():\n    from d import e\n"
    assert imported(ast.parse(source)) == {"a.b", "harness.models", "c", "d"}
    assert at_module_level(ast.parse(source).body) == {"a", "harness"}
