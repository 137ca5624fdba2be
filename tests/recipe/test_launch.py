"""`runtime.launch`: what would stop the processes of a training is found before anything runs."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from harness.recipe import launch
from harness.recipe.launch import Accelerate
from harness.recipe.load import load_recipe
from tests.a_recipe import RECIPE, load, refused

FULL, SAVED = "  fsdp_state_dict_type: FULL_STATE_DICT\n", "  zero3_save_16bit_model: true\n"
FSDP = "distributed_type: FSDP\nfsdp_config:\n  fsdp_version: 2\n%s"
ZERO = "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stage: 3\n%s"
RECIPES = Path(__file__).parents[2] / "recipes"
TASK_FIELDS = {
    *("name", "workdir", "num_nodes", "resources", "envs", "secrets", "file_mounts", "volumes", "setup", "run"),
    *("service", "config", "event_callback", "experimental", "inputs", "outputs"),
}
"""Fields of a SkyPilot task (docs.skypilot.co, "SkyPilot YAML"). This one passes its own schema (sky.utils.schemas)."""
LAUNCH = "runtime: {launch: {accelerate: {%s}}}\n"


def test_a_batch_is_shared_by_all_processes(folder: Path) -> None:
    text = RECIPE + LAUNCH % "num_processes: 3"
    message = refused(folder, text)
    assert "training.batch_size: 8 can't be shared by the 3 processes of runtime.launch; expected a multiple" in message
    load(folder, text.replace("num_processes: 3", "num_processes: 4"))


def test_the_number_of_processes_is_the_configuration_s(folder: Path) -> None:
    (folder / "a.yaml").write_text("distributed_type: MULTI_GPU\nnum_processes: 5\n")
    assert "shared by the 5 processes" in refused(folder, RECIPE + LAUNCH % "config: a.yaml")
    load(folder, RECIPE + LAUNCH % "config: a.yaml, num_processes: 2")


@pytest.mark.parametrize(
    "content",
    [
        "distributed_type: NO\nmixed_precision: no\n",
        "distributed_type: null\nnum_processes: null\nmixed_precision: null\n",
        "distributed_type: MULTI_GPU\nnum_processes: 2\nfsdp_config: null\ndynamo_config: null\n",
    ],
)
def test_what_is_left_empty_has_the_default(content: str, folder: Path) -> None:
    (folder / "a.yaml").write_text(content)
    load(folder, RECIPE + LAUNCH % "config: a.yaml")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("num_machines: 2\n", "num_machines: 2 in a.yaml; expected 1"),
        ("num_processes: many\n", "num_processes: many in a.yaml; expected a whole number"),
        ("num_processes: 0\n", "num_processes: 0 in a.yaml; expected a whole number"),
        ("num_processes: 2\n", "distributed_type is missing in a.yaml; expected one of NO"),
        (
            "distributed_type: NO\nnum_processes: 2\n",
            "NO in a.yaml starts one process, and 2 are wanted; expected MULTI",
        ),
        ("distributed_type: MULTI_CPU\nnum_processes: 2\n", "MULTI_CPU in a.yaml starts one process, and 2 are"),
        ("- 1\n", "a.yaml is no accelerate configuration"),
        ("{", "a.yaml can't be read (line"),
        ("num_processes: 010\n", "a.yaml can't be read (line 1"),
        ("distributed_type: FSDP\n", "fsdp_version: 1 (the default) in a.yaml; expected 2 in its fsdp_config"),
        ("distributed_type: FSDP\nfsdp_config: {fsdp_version: 1}\n", "fsdp_version: 1 in a.yaml; expected 2"),
        ("distributed_type: FSDP\nfsdp_config: 2\n", "fsdp_config: 2 in a.yaml; expected fields"),
        ("distributed_type: FDSP\n", "distributed_type: FDSP in a.yaml; did you mean 'FSDP'"),
        ("mixed_precision: bf16\n", "mixed_precision: bf16 in a.yaml would change results"),
        (
            "distributed_type: NO\ndynamo_config: {dynamo_backend: INDUCTOR}\n",
            "dynamo_backend: INDUCTOR in a.yaml; expected NO",
        ),
        ("distributed_type: NO\nparallelism_config: {tp_size: 2}\n", "parallelism_config: {'tp_size': 2} in a.yaml;"),
        (FSDP % "", "fsdp_state_dict_type: SHARDED_STATE_DICT (the default) in a.yaml; expected FULL_STATE_DICT"),
        (FSDP % FULL + "  fsdp_offload_params: true\n", "fsdp_offload_params: True in a.yaml; expected False"),
        (FSDP % FULL + "  fsdp_activation_checkpointing: true\n", "training.gradient_checkpointing says that"),
        (ZERO % "", "zero3_save_16bit_model: False (the default) in a.yaml; expected True"),
        (ZERO % SAVED + "  gradient_clipping: 0.5\n", "training.max_grad_norm decides it"),
        (ZERO % SAVED + "  zero3_init_flag: true\n", "zero3_init_flag: True in a.yaml; expected False"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 4}\n", "zero_stage: 4 in a.yaml; expected 1"),
    ],
)
def test_a_configuration_that_can_t_be_used(folder: Path, content: str, reason: str) -> None:
    (folder / "a.yaml").write_text(content)
    assert reason in refused(folder, RECIPE + LAUNCH % "config: a.yaml")


def test_sharded_processes_bound_their_memory_already(folder: Path) -> None:
    (folder / "a.yaml").write_text("distributed_type: FSDP\nnum_processes: 2\n" + (FSDP % FULL).partition("\n")[2])
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


def test_each_process_has_a_gpu_of_its_own(folder: Path) -> None:
    text = RECIPE + "runtime: {resources: {%s}, launch: {accelerate: {num_processes: 4}}}\n"
    message = refused(folder, text % "default: {gpus: 1}")
    assert "runtime.resources.default.gpus: 1 for train, and runtime.launch starts 4 processes there" in message
    assert message.endswith("expected 4: add runtime.resources.train")
    assert "resources.train.gpus: 8 for train" in refused(folder, text % "train: {gpus: 8}")
    load(folder, text % "default: {gpus: 4}")
    load(folder, text % "verdicts: {gpus: 1}")


@pytest.mark.parametrize("name", ["ddp", "fsdp", "zero3"])
def test_the_configurations_that_ship_can_be_used(name: str) -> None:
    launch = Accelerate(config=RECIPES / "accelerate" / f"{name}.yaml")
    assert launch.processes in (4, 8)
    assert launch.is_sharded == (name != "ddp")


def test_recipe_configuration_and_examples_have_the_same_numbers() -> None:
    """paper-scale, its accelerate configuration, and how SkyPilot and Slurm start it."""
    recipe = load_recipe(RECIPES / "paper" / "paper-scale.yaml", check=False)
    assert recipe.runtime.launch
    accelerate, resources = recipe.runtime.launch.accelerate, recipe.runtime.resources
    assert accelerate.num_processes is None, "the configuration's number is the only one"
    assert resources["train"].gpus == accelerate.processes
    assert recipe.training.save_every, "what is preempted goes on from a checkpoint"
    task = yaml.safe_load((RECIPES / "skypilot" / "paper-scale.yaml").read_text())
    machine = task["resources"]
    gpus = int(machine["accelerators"].split(":")[1])
    assert gpus == 8 == 2 * accelerate.processes
    assert int(machine["cpus"].rstrip("+")) >= 2 * resources["train"].cpus
    assert int(machine["memory"].rstrip("+")) * 1e9 >= 2 * (resources["train"].memory or 0)
    assert machine["use_spot"]
    assert machine["job_recovery"]
    assert (RECIPES.parent / task["envs"]["RECIPE"]).samefile(RECIPES / "paper" / "paper-scale.yaml")
    assert task["envs"]["HARNESS_HOME"] in task["file_mounts"]
    assert set(task) <= TASK_FIELDS
    batch = (RECIPES / "slurm" / "ray.sbatch").read_text()
    assert re.findall(r"#SBATCH --gpus-per-node=(\d+)", batch) == [str(accelerate.processes)]
    assert re.findall(r"#SBATCH --cpus-per-task=(\d+)", batch) == [f"{resources['train'].cpus:g}"]
    assert "#SBATCH --requeue" in batch


def test_all_weights_sharded_over_the_machine_of_the_example() -> None:
    """The options that the SkyPilot task has for it, as a comment."""
    text = (RECIPES / "skypilot" / "paper-scale.yaml").read_text()
    edits = re.findall(r"--set (\S+)", text)
    recipe = load_recipe(RECIPES / "paper" / "paper-scale.yaml", edits, check=False)
    assert recipe.training.lora is None
    assert recipe.runtime.launch
    assert recipe.runtime.launch.accelerate.kind == "FSDP"
    assert recipe.runtime.launch.accelerate.fields["fsdp_config"]["fsdp_cpu_ram_efficient_loading"]
    assert recipe.runtime.resources["train"].gpus == recipe.runtime.launch.accelerate.processes == 8


def test_the_batch_script_is_bash() -> None:
    script = RECIPES / "slurm" / "ray.sbatch"
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, check=False).returncode == 0
