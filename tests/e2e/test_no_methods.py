"""A recipe that ends with its ranked dataset, and one that only judges the untrained policy, on a tiny random model."""

import json
import subprocess
from pathlib import Path

import pytest

from tests import forked

pytestmark = pytest.mark.slow

RECIPE = """\
name: data-only
policy: {{model: {model}, dtype: float32}}
data:
  seeds: [{{name: builtin, limit: 12}}]
  holdout: 0.25
  responses: {{generator: {{name: hf, model: {model}, dtype: float32}}, n: 3, max_new_tokens: 8}}
  reward: {{name: trained, base: {model}, dtype: float32, epochs: 1, max_length: 256}}
"""
EVALUATION = """evaluation:
  judge: {{name: local, model: {model}, dtype: float32}}
  answers: {{max_new_tokens: 8}}
  benchmarks: [{{name: mt_bench, questions: builtin, limit: 2}}]
"""


def harness(folder: Path, text: str, model: Path) -> subprocess.CompletedProcess[str]:
    (folder / "x.yaml").write_text(text.format(model=model))
    return forked.harness("run", "x.yaml", home=folder / "home", cwd=folder)


def test_without_methods_a_recipe_ends_with_its_ranked_dataset(tmp_path: Path, tiny_model: Path) -> None:
    done = harness(tmp_path, RECIPE, tiny_model)
    assert done.returncode == 0, done.stderr
    assert "No methods and no evaluation: no board." in done.stdout
    assert not (tmp_path / "leaderboards" / "data-only" / "board.json").exists()
    artifacts = [json.loads(p.read_text()) for p in (tmp_path / "home" / "store" / "artifacts").glob("*/artifact.json")]
    made = {a["stage"] for a in artifacts}
    assert {"seeds", "responses", "reward", "ranked"} <= made
    assert not made & {"reference", "train", "heldout", "answers", "verdicts"}
    (folder,) = [p.parent for p in (tmp_path / "home" / "store" / "artifacts").glob("*/README.md") if p.is_file()]
    from datasets import load_dataset

    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 9, "test": 3}
    text = (folder / "README.md").read_text()
    for said in (
        "license: apache-2.0",
        "## Sources and licences",
        "`builtin`",
        "self-BLEU",
        "seed:chosen",
        "perplexity",
    ):
        assert said in text
    assert str(tmp_path) not in text
    assert " nan " not in text


def test_with_an_evaluation_the_untrained_policy_is_the_only_row(tmp_path: Path, tiny_model: Path) -> None:
    done = harness(tmp_path, RECIPE + EVALUATION, tiny_model)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "leaderboards" / "data-only" / "board.json").read_text())["rows"]
    assert row["id"] == "base"
    entry = json.loads((tmp_path / "leaderboards" / "data-only" / "entries" / "base.json").read_text())
    assert len(entry["outcomes"]["mt_bench"]) == 4
    assert not [name for name in row["metrics"] if name.startswith("heldout")]
