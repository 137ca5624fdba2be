"""`harness components`: every component is listed and described, at 80 columns, and a wrong name is one line."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from harness import components as registry
from harness.cli.app import app
from harness.components import Kind, component_class, modules
from harness.errors import ComponentError, RecipeError

KINDS: tuple[Kind, ...] = get_args(Kind)
EVERY = [(kind, name) for kind in KINDS for name in sorted(modules(kind))]


def printed(*arguments: str, columns: int = 80) -> str:
    done = CliRunner().invoke(app, ["components", *arguments], env={"COLUMNS": str(columns)})
    if done.exception is not None:
        raise done.exception
    return done.output


def test_all_kinds_are_listed() -> None:
    text = printed()
    assert max(map(len, text.splitlines())) <= 80
    for kind, name in EVERY:
        assert re.search(rf"^{kind}  \(", text, flags=re.MULTILINE)
        assert re.search(rf"^  {name}  ", text, flags=re.MULTILINE), name


def test_one_kind_has_a_sentence_each() -> None:
    text = printed("loss", columns=400)
    assert text.splitlines()[0].startswith("loss  (methods[].loss)")
    assert "judge" not in text.splitlines()[0]
    (line,) = [line for line in text.splitlines() if line.startswith("  dpo_best_worst ")]
    assert line.split(maxsplit=1)[1].startswith("-log sigmoid(r_best - r_worst), with r = beta log(pi / pi_ref): DPO")
    assert line.rstrip().endswith("on one pair per prompt.")


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_component_has_its_docstring_and_fields(kind: Kind, name: str) -> None:
    text = printed(kind, name)
    assert max(map(len, text.splitlines())) <= 80
    cls = component_class(kind, name)
    words = " ".join((cls.__doc__ or "").split())
    assert words in " ".join(text.split()), "the docstring is not whole"
    for field in set(cls.model_json_schema()["properties"]) - {"name"}:
        assert re.search(rf"^{field}  ", text, flags=re.MULTILINE), field


def test_types_defaults_bounds_and_texts() -> None:
    def rows(kind: str, name: str) -> dict[str, str]:
        return {line.split("  ")[0]: " ".join(line.split()) for line in printed(kind, name, columns=400).splitlines()}

    found = rows("loss", "mdpo_linear")
    assert found["beta"].startswith("beta number, > 0 0.1 The factor that turns a log-ratio")
    assert found["label_smoothing"].startswith("label_smoothing number, >= 0, < 0.5 0 ")
    assert found["length_norm"].startswith("length_norm boolean false Divide the log-ratio")
    assert found["normalise"].startswith("normalise pairs | l1 | max | none pairs What Z is:")
    assert "list of number" in found["weights"]
    assert "name" not in found
    found = rows("reward", "ensemble")
    assert found["rewards"].startswith("rewards list of reward {name: ...}, 2 or more required The reward models")
    assert found["weights"].startswith("weights list of number | null null Of the models")
    assert "It has no fields." in printed("judge", "replay")


def test_a_loss_says_what_it_is() -> None:
    assert "on_pairs: yes" in printed("loss", "dpo_adjacent")
    assert "reconstruction: no" in printed("loss", "dpo_adjacent")
    text = " ".join(printed("loss", "mdpo_linear").split())
    assert "on_pairs: no" in text
    assert "reconstruction: Multi-DPO here is a reconstruction of arXiv 2412.07812" in text


def test_a_benchmark_says_what_it_measures() -> None:
    text = printed("benchmark", "alpaca_eval", columns=120)
    rows = [re.split(r"  +", line.strip()) for line in text.splitlines() if line.startswith("alpaca_eval.")]
    assert ["alpaca_eval.win_rate", "win rate", "%", "higher", "2"] in rows
    assert ["alpaca_eval.wins", "wins", "–", "–", "–"] in rows
    text = printed("benchmark", "mt_bench")
    assert re.search(r"^mt_bench\.score +score +– +higher +0\.2 *$", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("los",), "unknown kind 'los'; did you mean 'loss'? available: benchmark, generator"),
        (("losses",), "did you mean 'loss'?"),
        (("loss", "dpo_best_wurst"), "unknown loss 'dpo_best_wurst'; did you mean 'dpo_best_worst'? available:"),
        (("judge", "qqqq"), "unknown judge 'qqqq'; available: local, openai"),
    ],
)
def test_a_wrong_name_is_an_error(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=r"^components: ") as caught:
        printed(*arguments)
    assert message in str(caught.value)


def test_a_pipe_gets_80_columns_and_an_error_is_one_line() -> None:
    command = [sys.executable, "-m", "harness.cli", "components"]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, "judge"], cwd=root, env={"PATH": ""}, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    assert 60 < max(map(len, done.stdout.splitlines())) <= 80
    wrong = subprocess.run([*command, "loss", "dpo"], cwd=root, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("harness: components: unknown loss 'dpo'")
    assert wrong.stderr.count("\n") == 1


def test_a_broken_file_of_another_package_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_loss.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    known = dict(modules("loss"))
    monkeypatch.setattr(
        registry, "modules", lambda kind: {**known, "broken": "broken_loss"} if kind == "loss" else modules(kind)
    )
    text = " ".join(printed("loss").split())
    assert "broken_loss can't be loaded (ModuleNotFoundError: No module named 'no_such_package')" in text
    assert "mdpo_linear -log sigmoid" in text
    with pytest.raises(ComponentError, match="broken_loss can't be loaded"):
        printed("loss", "broken")
