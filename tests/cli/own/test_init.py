"""`harness init`: it says what is in a file of pairs, and its recipe is valid as written."""

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from harness.cli.app import app
from harness.data.columns.survey import survey
from harness.data.read import parse_pairs
from harness.errors import HarnessError
from harness.recipe.load import load_study
from harness.types import PreferencePair
from tests import forked

ROOT = Path(__file__).parents[3]
random.seed(5)
PAIRS = [
    {
        "prompt": f"How do I repair {thing} number {i}?",
        "chosen": f"Open {thing} {i} with care" + ", slowly" * random.randint(0, 9),
        "rejected": f"Throw away {thing} {i}" + ", quickly" * random.randint(0, 9),
    }
    for i, thing in enumerate(["a clock", "a bike", "a lamp", "a chair"] * 15)
]


def pairs_of(rows: list[dict[str, Any]]) -> list[PreferencePair]:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return parse_pairs(content, "rows.jsonl", "rows")


def invoke(*arguments: str) -> tuple[str, str]:
    """(what is printed, and on stderr)."""
    done = CliRunner().invoke(app, ["init", *arguments])
    if done.exception is not None:
        raise done.exception
    return done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(folder: Path, rows: list[dict[str, Any]], name: str = "my pairs.csv") -> str:
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    return name


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("quickstart", "sweep", "gate", "served")]


@pytest.mark.parametrize("kind", ["pairs", *SLOW])
def test_its_recipe_is_valid_and_reads_the_file(kind: str, folder: Path) -> None:
    (folder / "recipes").mkdir()
    printed, _ = invoke("--data", saved(folder, PAIRS), "--from", kind, "-o", "recipes/mine.yaml")
    assert "60 pairs; chosen is the longer answer in" in printed
    recipe = folder / "recipes" / "mine.yaml"
    first = load_study(recipe, check=False).cells[0].recipe
    assert first.data is not None
    assert len(first.data.seeds[0].pairs()) == 60
    text = recipe.read_text()
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    assert "# harness plan, on this machine: about " in text
    assert ("Its judge is asked" in text) == (kind in ("quickstart", "served"))
    assert json.loads((folder / "recipes" / "recipe.schema.json").read_text())["title"] == "preference-harness recipe"


def test_without_data_it_takes_the_pairs_that_ship(folder: Path) -> None:
    invoke()
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["data"]["seeds"] == [{"name": "builtin"}]


def test_columns_may_have_other_names(folder: Path) -> None:
    rows = [{"My question": p["prompt"], "on": p["chosen"], "b": p["rejected"]} for p in PAIRS]
    invoke("--data", saved(folder, rows), "--columns", "prompt=My question,chosen=on,rejected=b")
    recipe = load_study(folder / "recipe.yaml", check=False).cells[0].recipe
    assert recipe.data is not None
    assert recipe.data.seeds[0].pairs()[0].chosen == PAIRS[0]["chosen"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p: {"chosen": p["chosen"] + p["rejected"]}, ["longer one in 100% of the pairs: a policy may learn"]),
        (lambda p: {"rejected": p["chosen"] + p["rejected"]}, ["shorter one in 100% of the pairs", "right way round?"]),
        (
            lambda p: {"chosen": f"{p['prompt'] * 5}a", "rejected": f"{p['prompt'] * 5}b"},
            ["in 100% of the pairs the ans"],
        ),
        (
            lambda p: {"chosen": f"model-{len(p['prompt']) % 3}", "rejected": "llama-3"},
            ["4 different answers in 60 pairs: are these names or labels?"],
        ),
        (lambda p: {}, []),
    ],
)
def test_what_may_mislead_is_a_warning(change: Callable[[Any], dict[str, str]], expected: list[str]) -> None:
    warnings = survey(pairs_of([{**p, **change(p)} for p in PAIRS]), 0).warnings
    assert len(warnings) == bool(expected)
    assert all(words in warnings[0] for words in expected)


def test_missing_values_and_columns_that_prompts_may_need_are_warnings() -> None:
    pairs = pairs_of([{**PAIRS[0], "rejected": " NaN"}, *PAIRS[1:]])
    missing, unread = survey(pairs, 0, ["score", "context", "image_path"]).warnings
    assert missing == "in 1 of the pairs a text is nan, None or the like: is a value missing there?"
    assert unread.startswith("context, image_path: not read; if the answers depend on it")


def test_few_pairs_and_equal_answers_are_warnings(folder: Path) -> None:
    rows = [{**p, "rejected": p["chosen"]} for p in PAIRS[:30]] + PAIRS[30:]
    printed, warned = invoke("--data", saved(folder, rows))
    assert "30 pairs; " in printed
    assert "left out: 30 with equal answers" in printed
    # Of three in six, Clopper and Pearson's interval is 11.8 to 88.2 %.
    assert "6 pairs are held out: they tell an accuracy to within about 38 points (95 % CI)" in printed
    assert warned.splitlines() == [
        "harness: warning: in 30 of 60 rows the two answers are equal: few say which answer is better",
        "harness: warning: 30 pairs are few: figures on the held-out ones will have wide intervals",
    ]


def test_odd_rows_are_named_together(folder: Path) -> None:
    rows = [{**p, "chosen": "" if i in (2, 7, 9) else p["chosen"]} for i, p in enumerate(PAIRS)]
    with pytest.raises(HarnessError) as caught:
        invoke("--data", saved(folder, rows, "odd.csv"))
    expected = "odd.csv:4: chosen: expected text, got an empty string; fill it in or remove the row"
    assert expected in str(caught.value)
    assert "; nor can 2 more (9, 11); 57 pairs can; correct these rows or remove them" in str(caught.value)
    assert not (folder / "recipe.yaml").exists()


def test_ranked_responses_are_ranked_data(folder: Path) -> None:
    rows = [
        {"prompt": p["prompt"], "all_generated_responses": ["a", "b", "c"], "all_rm_scores": [1, 3, 2]} for p in PAIRS
    ]
    (folder / "ranked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    invoke("--data", "ranked.jsonl")
    recipe = load_study(folder / "recipe.yaml", check=False).cells[0].recipe
    assert recipe.data is not None
    assert recipe.data.ranked is not None
    assert len(recipe.data.ranked.pairs()[0].responses) == 3
    with pytest.raises(HarnessError, match="ranks responses already; expected --from pairs, sweep or gate"):
        invoke("--data", "ranked.jsonl", "--from", "served", "-o", "other.yaml")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--from", "quikstart"), "--from: unknown 'quikstart'; did you mean 'quickstart'?"),
        (("--data", "my-pairs.csv"), "my-pairs.csv: no such file; .* did you mean 'my pairs.csv'"),
        (("--data", "my pairs.csv", "--columns", "prompt"), "--columns: expected ROLE=COLUMN"),
        (
            ("--data", "my pairs.csv", "--columns", "promt=a"),
            "--columns: promt: Extra inputs are not permitted; roles: prompt, ",
        ),
        (("--data", "my pairs.csv", "--columns", "prompt=a"), "columns.prompt: there is no column 'a'"),
        (("--data", "my pairs.csv", "-o", "my pairs.csv"), "my pairs.csv: is there already"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], expected: str, folder: Path) -> None:
    saved(folder, PAIRS)
    with pytest.raises(HarnessError, match=expected) as caught:
        invoke(*arguments)
    assert "\n" not in str(caught.value)


def test_odd_names_are_safe_in_yaml(folder: Path) -> None:
    name = """- a: "b" #c, {y} ${HOME} 'ünï'.csv"""
    invoke("--data", saved(folder, PAIRS, name))
    recipe = load_study(folder / "recipe.yaml", check=False).cells[0].recipe
    assert recipe.data is not None
    assert len(recipe.data.seeds[0].pairs()) == 60


@pytest.mark.slow
def test_its_recipe_runs_as_written(folder: Path, tiny_model: Path) -> None:
    """But for the model, which is not here everywhere."""

    def harness(*arguments: str) -> subprocess.CompletedProcess[str]:
        return forked.harness(*arguments, home=folder / "home", cwd=folder)

    saved(folder, PAIRS[:30])
    assert harness("init", "--data", "my pairs.csv", "--from", "gate", "-o", "mine.yaml").returncode == 0
    edits = ("--set", f"policy.model={tiny_model}", "--set", "policy.dtype=float32")
    done = harness("run", "mine.yaml", *edits)
    assert "harness gate: " in done.stdout, done.stderr
    assert done.returncode in (0, 1, 3)
    rows = json.loads((folder / "leaderboards" / "mine" / "board.json").read_text())["rows"]
    assert [row["id"] for row in rows] == ["base", "dpo.seed-0", "ipo.seed-0"]
    assert {row["metrics"]["heldout.pair_accuracy"]["n"] for row in rows} == {6}
