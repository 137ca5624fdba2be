"""`harness plan --on` and `--offline`: what GPUs are needed, and that nothing is fetched to say so."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import harness
from harness.cli.app import app
from harness.errors import HarnessError
from harness.files import is_offline, offline
from tests.a_recipe import RECIPE, recipe_folder

PAPER = Path(__file__).parents[2] / "recipes" / "paper" / "paper-scale.yaml"
EDITS = ("policy.model=owner/model", "data.responses.generator.model=owner/model")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a network: any connection is an error."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "160")


def planned(*options: str, recipe: Path = PAPER) -> str:
    once = ["--set", "training.seeds=null"] if recipe == PAPER else []
    result = CliRunner().invoke(app, ["plan", str(recipe), *once, *options])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def cells(text: str, stage: str) -> list[str]:
    """GPUs, GPU-hours, memory and whether it fits."""
    found = re.search(rf"(?:^| ){re.escape(stage)} (\d*) ?(\S+) (\S+(?: GB)?) (\w+)", text)
    assert found, stage
    return [found[1], found[2], found[3], found[4]]


def test_the_paper_s_scale_on_eight_gpus() -> None:
    text = planned("--offline", "--on", "h100:8")
    gpus, hours, memory, fits = cells(text, "train/multi-dpo")
    assert (gpus, fits) == ("4", "yes")
    # Forward and backward of 7.24e9 parameters, 20 % of 989 TFLOP/s, on 22,359 prompts with four texts of 1,024 tokens.
    assert float(hours) == pytest.approx(4 * 7.24e9 * 22_359 * (4 * 1024 + 242) / (0.2 * 989e12) / 3600, rel=0.05)
    assert 20 < float(memory.split()[0]) < 80
    total = re.search(r"about, in all 4 ([\d.]+)", text)
    assert total
    assert float(total[1]) > 4 * float(hours)
    assert f"{float(total[1]) / 8:.1f} h if all work all the time" in text
    assert "Assumed, not measured on a GPU" in text
    assert "NVIDIA H100 Tensor Core GPU data sheet" in text
    assert "Not run on a GPU: DDP" in text
    assert "Judging costs of 10 stages are unknown offline" in text


@pytest.mark.slow
def test_the_page_s_figures_are_what_the_command_prints() -> None:
    page = " ".join((PAPER.parents[1] / "slurm" / "README.md").read_text(encoding="utf-8").split())
    told = re.search(r"at most about (\d+) H100-hours: at least ([\d.]+) h on eight GPUs, ([\d.]+) h on 64", page)
    assert told
    for gpus, least in ((8, told[2]), (64, told[3])):
        result = CliRunner().invoke(app, ["plan", str(PAPER), "--offline", "--on", f"h100:{gpus}"])
        text = " ".join(result.output.split())
        assert f"On {gpus} of them: at least {least} h." in text
        total = re.search(r"about, in all 4 ([\d.]+)", text)
        assert total
        assert round(float(total[1])) == int(told[1])


def test_what_does_not_fit_is_named_with_what_fits() -> None:
    own = "methods[dpo].training={lora: {r: 8}}"
    text = planned("--offline", "--on", "h100:8", "--set", "training.lora=false", "--set", own)
    assert cells(text, "train/multi-dpo")[3] == "no"
    assert cells(text, "train/dpo")[3] == "yes"
    assert re.search(r"Too large for NVIDIA H100 SXM: [^.]*train/multi-dpo", text)
    assert re.search(r"What fits: runtime.launch with FSDP or ZeRO-3 on \d GPUs", text)


def test_a_model_of_unknown_size_is_unknown_and_not_in_the_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (recipe_folder(tmp_path) / "x.yaml").write_text(RECIPE)
    recipe = Path("recipes/x.yaml")
    edits = [option for edit in EDITS for option in ("--set", edit)]
    text = planned("--offline", "--on", "l4", *edits, recipe=recipe)
    assert "train/dpo unknown unknown unknown" in text
    assert cells(text, "reward")[3] == "yes"
    assert re.search(r"about, in all, without \d+ stages", text)
    assert "the size of owner/model is unknown" in text
    (tmp_path / "recipes" / "none.yaml").write_text(RECIPE.replace("smollm2-135m-instruct", "owner/model"))
    text = planned("--offline", "--on", "l4", recipe=Path("recipes/none.yaml"))
    assert re.search(r"about, in all, without \d+ stages unknown unknown", text)  # no number of GPUs
    here = planned("--offline", *edits, recipe=recipe)
    assert re.search(r"train/dpo \w{12} to run unknown", here)
    assert re.search(r"about, in all, without \d+ unknown", here)


def test_what_servers_do_is_said_to_be_in_no_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (recipe_folder(tmp_path) / "x.yaml").write_text(RECIPE)
    recipe, server = Path("recipes/x.yaml"), "{name: openai, model: a/b, base_url: 'http://127.0.0.1:9/v1'}"
    text = planned("--offline", "--on", "l4", "--set", f"data.responses.generator={server}", recipe=recipe)
    assert "Asked of servers, whose GPUs are in no sum: responses." in text
    assert "Asked of servers" not in planned("--offline", "--on", "l4", recipe=recipe)


def test_seeds_that_nothing_is_known_of_are_unknown() -> None:
    text = planned("--offline", "--on", "h100", "--set", "data.seeds=[{name: hub, dataset: owner/pairs}]")
    assert "train/multi-dpo unknown" in text
    assert "owner/pairs" in text
    assert cells(text, "answers/mt_bench/base")[3] == "yes"


def test_without_a_gpu_a_plan_says_how_much_memory_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (recipe_folder(tmp_path) / "x.yaml").write_text(RECIPE)
    text = repr(harness.plan("recipes/x.yaml", offline=True))
    assert re.search(r"Memory: at most about [\d.]+ GB a process, in \S+; this machine's processors have", text)
    assert not is_offline()


def test_an_unknown_device_is_an_error_of_one_line() -> None:
    result = CliRunner().invoke(app, ["plan", str(PAPER), "--offline", "--on", "h1000"])
    assert result.exit_code != 0
    with pytest.raises(HarnessError, match="--on: unknown device 'h1000'"):
        harness.plan(PAPER, on="h1000", offline=True)


def test_nothing_is_fetched_offline() -> None:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    with offline():
        assert constants.HF_HUB_OFFLINE
    assert before == constants.HF_HUB_OFFLINE
