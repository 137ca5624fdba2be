"""`runtime.launch`: what would stop the processes of a training is found before anything runs."""

from pathlib import Path

import pytest

from harness.recipe import launch
from harness.recipe.launch import Accelerate
from tests.a_recipe import RECIPE, load, refused

LAUNCH = "runtime: {launch: {accelerate: {%s}}}\n"


def test_a_batch_is_shared_by_all_processes(folder: Path) -> None:
    text = RECIPE + LAUNCH % "num_processes: 3"
    message = refused(folder, text)
    assert "training.batch_size: 8 can't be shared by the 3 processes of runtime.launch; expected a multiple" in message
    load(folder, text.replace("num_processes: 3", "num_processes: 4"))


def test_the_number_of_processes_is_the_configuration_s(folder: Path) -> None:
    (folder / "a.yaml").write_text("num_processes: 5\n")
    assert "shared by the 5 processes" in refused(folder, RECIPE + LAUNCH % "config: a.yaml")
    load(folder, RECIPE + LAUNCH % "config: a.yaml, num_processes: 2")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("num_machines: 2\n", "num_machines: 2 in a.yaml; expected 1"),
        ("num_processes: many\n", "num_processes: many in a.yaml; expected a whole number"),
        ("num_processes: 0\n", "num_processes: 0 in a.yaml; expected a whole number"),
        ("- 1\n", "a.yaml is no accelerate configuration"),
        ("{", "a.yaml can't be read (line"),
        ("num_processes: 010\n", "a.yaml can't be read (line 1"),
        ("distributed_type: FSDP\n", "fsdp_version: 1 in a.yaml; expected 2 in its fsdp_config"),
        ("distributed_type: FSDP\nfsdp_config: {fsdp_version: 1}\n", "fsdp_version: 1 in a.yaml; expected 2"),
    ],
)
def test_a_configuration_that_can_t_be_used(folder: Path, content: str, reason: str) -> None:
    (folder / "a.yaml").write_text(content)
    assert reason in refused(folder, RECIPE + LAUNCH % "config: a.yaml")


def test_sharded_processes_bound_their_memory_already(folder: Path) -> None:
    (folder / "a.yaml").write_text("distributed_type: FSDP\nnum_processes: 2\nfsdp_config: {fsdp_version: 2}\n")
    text = RECIPE + "runtime: {memory: one_response, launch: {accelerate: {config: a.yaml}}}\n"
    assert "runtime.memory: one_response works in one process or with DDP" in refused(folder, text)
    (folder / "a.yaml").write_text("distributed_type: MULTI_GPU\nnum_processes: 2\n")
    load(folder, text)


def test_deepspeed_is_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.yaml").write_text("distributed_type: DEEPSPEED\nnum_processes: 2\n")
    monkeypatch.setattr(launch, "find_spec", lambda _name: None)
    with pytest.raises(launch.RecipeError, match=r"a\.yaml needs the package deepspeed"):
        Accelerate(config=folder / "a.yaml").check()
    Accelerate(num_processes=2).check()
