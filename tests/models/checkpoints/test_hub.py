"""Models and adapters of the hub, from this machine's cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.models.checkpoints.hub import is_whole_snapshot
from tests.models.checkpoints.edits import drop, edit_json, edit_weights, into_shards
from tests.models.checkpoints.test_adapters import adapter

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put(cache: Path, model: str, folder: Path) -> None:
    """A model's only commit as the hub's client stores it."""
    repository = cache / f"models--{model.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for i, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, repository / "blobs" / str(i))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(i))


SCRIPT = """
import sys
from harness.errors import ModelError
from harness.models import load as models
for name in sys.argv[1:]:
    for action in (models.check, models.load_causal_lm, models.load_tokenizer, models.identity):
        try:
            value = action(name)
            print(name, action.__name__, value if isinstance(value, dict) else type(value).__name__)
        except ModelError as error:
            print(name, action.__name__, "ModelError", error)
"""


@pytest.mark.slow
def test_what_is_cached_is_checked_loaded_and_identified(tiny_model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    put(cache, "own/whole", tiny_model)
    with_adapter = adapter(tiny_model, tmp_path / "adapter")
    edit_json(with_adapter, "adapter_config.json", base_model_name_or_path="own/whole")
    put(cache, "own/adapter", with_adapter)
    incomplete = Path(shutil.copytree(tiny_model, tmp_path / "incomplete"))
    edit_weights(incomplete, drop("model.norm"))
    put(cache, "own/incomplete", incomplete)
    edit_json(with_adapter, "adapter_config.json", base_model_name_or_path="own/adapter")
    put(cache, "own/stacked", with_adapter)
    names = ["own/whole", "own/adapter", "own/incomplete", "own/stacked"]
    env = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names], capture_output=True, text=True, env=env, timeout=120, check=True
    )
    lines = result.stdout.splitlines()
    said = {tuple(line.split(" ", 2)[:2]): line.split(" ", 2)[2] for line in lines}
    whole = {"model": "own/whole", "revision": COMMIT}
    assert said["own/whole", "check"] == "NoneType"
    assert said["own/whole", "load_causal_lm"] == "LlamaForCausalLM"
    assert said["own/whole", "identity"] == str(whole)
    assert said["own/adapter", "check"] == "NoneType"
    assert said["own/adapter", "load_causal_lm"] == "PeftModelForCausalLM"
    assert said["own/adapter", "identity"] == str({"model": "own/adapter", "revision": COMMIT, "base": whole})
    for action in ("check", "load_causal_lm"):
        assert "1 missing (model.norm.weight)" in said["own/incomplete", action]
        assert "is for the adapter own/adapter" in said["own/stacked", action]
    assert len(said) == len(lines) == 16


def test_a_snapshot_without_all_of_its_shards_is_fetched_first(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    into_shards(folder, ["a.safetensors", "b.safetensors"])
    assert is_whole_snapshot(folder)
    (folder / "b.safetensors").unlink()
    assert not is_whole_snapshot(folder)
