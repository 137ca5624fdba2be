"""A recipe's sweep: its cells, their names, and the messages on wrong ones."""

import copy
import random
from pathlib import Path

import pytest
import yaml

from harness.errors import RecipeError
from harness.recipe.load import Study, load_recipe, load_study
from tests.a_recipe import RECIPE
from tests.recipe.test_fuzz import ODD, places


def study(folder: Path, sweep: str, *edits: str) -> Study:
    (folder / "x.yaml").write_text(f"{RECIPE}sweep:\n{sweep}", encoding="utf-8")
    return load_study(Path("recipes/x.yaml"), edits, check=False)


def refused(folder: Path, sweep: str) -> str:
    with pytest.raises(RecipeError) as caught:
        study(folder, sweep)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


GRID = """\
  grid:
    data.responses.n: [2, 4]
    data.reward:
      long: {name: length}
      noisy: {name: noisy, reward: {name: length}, flip: 0.2}
"""


def test_a_grid_has_every_combination(folder: Path) -> None:
    swept = study(folder, GRID)
    assert [cell.id for cell in swept.cells] == [
        "n-2.reward-long",
        "n-2.reward-noisy",
        "n-4.reward-long",
        "n-4.reward-noisy",
    ]
    assert [axis.name for axis in swept.axes] == ["n", "reward"]
    for cell in swept.cells:
        assert cell.recipe.data
        assert cell.recipe.data.responses
        assert cell.recipe.data.responses.n == int(cell.settings["n"])
        assert cell.recipe.data.reward.name == {"long": "length", "noisy": "noisy"}[cell.settings["reward"]]  # type: ignore[union-attr]
        assert cell.recipe.sweep is None


def test_fields_may_be_in_the_sweep_itself(folder: Path) -> None:
    swept = study(folder, "  data.responses.n: [2, 4]\n  seeds: [1, 2]\n")
    assert [cell.id for cell in swept.cells] == ["n-2.seed-1", "n-2.seed-2", "n-4.seed-1", "n-4.seed-2"]
    assert "32: data.responses.n: expected at most 64" in refused(folder, "  seeds: [1]\n  data.responses.n: [2, 99]\n")


def test_zip_varies_together_and_seeds_repeat_the_whole(folder: Path) -> None:
    swept = study(folder, "  zip: {training.epochs: [1, 3], training.learning_rate: [1e-4, 5e-5]}\n  seeds: [7, 8]\n")
    settings = [(c.recipe.training.epochs, c.recipe.training.learning_rate, c.recipe.seed) for c in swept.cells]
    assert settings == [(1, 1e-4, 7), (1, 1e-4, 8), (3, 5e-5, 7), (3, 5e-5, 8)]
    assert swept.cells[0].id == "epochs-1-0.0001.seed-7"


def test_zipped_values_may_repeat(folder: Path) -> None:
    swept = study(folder, "  zip: {training.epochs: [1, 1, 2], training.learning_rate: [1e-4, 5e-5, 1e-4]}\n")
    assert [cell.id for cell in swept.cells] == ["epochs-1-0.0001", "epochs-1-5e-05", "epochs-2-0.0001"]
    message = refused(folder, "  zip: {training.epochs: [1, 1], training.batch_size: [4, 4]}\n")
    assert "several rows would be named '1-4'" in message


def test_every_value_has_a_name(folder: Path) -> None:
    swept = study(folder, "  grid: {policy.revision: [null, 'é', 'feature/éx', v2]}\n")
    assert [cell.settings["revision"] for cell in swept.cells] == ["none", "value", "x", "v2"]


def test_named_cells_and_exclusions(folder: Path) -> None:
    cells = (
        "  cells:\n    - {id: small, data.responses.n: 2}\n    - {id: large, data.responses.n: 8, training.epochs: 3}\n"
    )
    swept = study(
        folder, f"{cells}  grid: {{'methods[dpo].loss.beta': [0.1, 0.5]}}\n  exclude: [{{cell: large, beta: 0.5}}]\n"
    )
    assert [cell.id for cell in swept.cells] == ["small.beta-0.1", "small.beta-0.5", "large.beta-0.1"]
    assert [m.loss.beta for m in swept.cells[1].recipe.methods] == [0.5, 0.1]  # type: ignore[union-attr]
    assert swept.cells[2].recipe.training.epochs == 3


def test_values_are_named_by_their_differences(folder: Path) -> None:
    noisy = "{name: noisy, reward: {name: length}, flip: "
    rewards = f"[{{name: length}}, {noisy} 0.1}}, {noisy} 0.3}}]"
    swept = study(folder, f"  grid: {{data.reward: {rewards}}}\n")
    assert [cell.settings["reward"] for cell in swept.cells] == ["length", "noisy-0.1", "noisy-0.3"]


def test_fields_with_one_ending_get_longer_names(folder: Path) -> None:
    swept = study(folder, "  grid: {data.prompts.temperature: [0.5], data.responses.temperature: [0.6, 0.7]}\n")
    assert [axis.name for axis in swept.axes] == ["prompts_temperature", "responses_temperature"]


def test_without_a_sweep_there_is_one_cell(folder: Path) -> None:
    (folder / "x.yaml").write_text(RECIPE)
    swept = load_study(Path("recipes/x.yaml"), check=False)
    assert [(cell.id, cell.settings) for cell in swept.cells] == [("", {})]
    assert swept.axes == ()


def test_edits_come_before_the_sweep(folder: Path) -> None:
    swept = study(folder, GRID, "sweep.grid[data.responses.n]=[3]", "training.epochs=5")
    assert [cell.settings["n"] for cell in swept.cells] == ["3", "3"]
    assert {cell.recipe.training.epochs for cell in swept.cells} == {5}


def test_commands_for_one_recipe_say_that_there_are_several(folder: Path) -> None:
    study(folder, GRID)
    with pytest.raises(RecipeError, match="expected a single recipe, but its sweep makes 4"):
        load_recipe(Path("recipes/x.yaml"), check=False)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("  grd: {seed: [1]}\n", "31: sweep.grd: unknown field; did you mean 'grid'"),
        ("  grid: {seed: 3}\n", "31: sweep.grid.seed: expected a list of values, or a mapping of names to values"),
        ("  grid: {seed: []}\n", "31: sweep.grid.seed: expected at least one value"),
        ("  grid:\n    seed: [1, x]\n", "32: seed: expected a whole number, got 'x' (in cell seed-x)"),
        ("  grid:\n    data.respones.n: [2]\n", "32: data.respones: unknown field; did you mean 'responses'"),
        ("  grid: {training.epochs: [1]}\n  zip: {training.epochs: [2]}\n", "sweep: training.epochs is varied twice"),
        ("  zip: {seed: [1, 2], training.epochs: [1]}\n", "expected equally many values for each field; seed has 2"),
        ("  grid: {seed: [1, 2]}\n  exclude: [{sed: 1}]\n", "exclude: 'sed' is not varied; did you mean 'seed'"),
        ("  grid: {seed: [1, 2]}\n  exclude: [{seed: 3}]\n", "exclude: seed has no value '3'; expected one of: 1, 2"),
        ("  grid: {seed: [1]}\n  exclude: [{seed: 1}]\n", "sweep: every cell is excluded"),
        ("  grid: {seed: [1, 2, 3]}\n  max_cells: 2\n", "sweep: 3 cells; expected at most max_cells, which is 2"),
        ("  grid: {seed: [1, 1]}\n", "several values would be named '1'; name them"),
        ("  grid: {data.reward: {'a b': {name: length}}}\n", "value name 'a b': expected letters"),
        ("  cells: [{data.responses.n: 2}]\n", "expected an `id` in each cell"),
        ("  grid: {name: [x, y]}\n", "`name` names the board of all cells"),
        ("  seeds: [1, 1]\n", "31: sweep.seeds: expected each seed once"),
    ],
)
def test_a_wrong_sweep_is_named(sweep: str, message: str, folder: Path) -> None:
    assert message in refused(folder, sweep)


def test_a_sweep_of_a_billion_cells_is_refused_at_once(folder: Path) -> None:
    many = ", ".join(str(i) for i in range(1000))
    grid = f"  grid: {{seed: [{many}], training.epochs: [{many}], training.batch_size: [{many}]}}\n"
    assert "1,000,000,000 cells" in refused(folder, grid)


@pytest.mark.slow
def test_a_mutated_sweep_is_refused_in_one_line(folder: Path) -> None:
    """Values that belong somewhere else, in every place of a sweep."""
    base = yaml.safe_load(f"sweep:\n{GRID}  seeds: [1, 2]\n  exclude: [{{n: 2, reward: long}}]\n")["sweep"]
    messages = []
    for seed in range(200):
        draw = random.Random(seed)
        sweep = copy.deepcopy(base)
        where = draw.choice(places(sweep))
        parent = sweep
        for key in where[:-1]:
            parent = parent[key]
        if draw.random() < 0.3 and isinstance(parent, dict):
            parent[draw.choice(["n\nm", "\x1b", "ß" * 90, "a[", "..", "data..n", "methods[no].x"])] = parent.pop(
                where[-1]
            )
        else:
            parent[where[-1]] = copy.deepcopy(draw.choice(ODD))
        text = yaml.safe_dump({**yaml.safe_load(RECIPE), "sweep": sweep}, sort_keys=False)
        (folder / "x.yaml").write_text(text, encoding="utf-8")
        try:
            load_study(Path("recipes/x.yaml"), check=False)
        except RecipeError as error:
            messages.append(str(error))
    assert len(messages) > 100
    for message in messages:
        assert message.startswith("recipes/x.yaml:")
        assert message.isprintable()  # so it is one line


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("rewards", "primary.axis: 'rewards' is not varied; did you mean 'reward'?"),
        ("seed", "primary.axis: 'seed' is not varied; expected one of"),
        ("judge", "primary.axis: rows that differ in 'judge' are not judged alike and can't be compared"),
    ],
)
def test_a_primary_axis_that_gives_no_comparison_is_refused(folder: Path, axis: str, message: str) -> None:
    sweep = f"{GRID}    evaluation.judge: [{{name: openai, model: a}}, {{name: openai, model: b}}]\n  seeds: [1, 2]\n"
    assert message in refused(folder, f"{sweep}primary: {{axis: {axis}}}\n")


def test_a_primary_axis_may_be_what_the_sweep_varies_or_the_methods(folder: Path) -> None:
    for axis in ("n", "reward", "method"):
        assert study(folder, f"{GRID}primary: {{axis: {axis}}}\n").cells[0].recipe.primary
