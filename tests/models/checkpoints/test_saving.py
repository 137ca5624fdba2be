"""Weights on a shared store can be read by whom the umask lets."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.models.checkpoints.saving import follow_umask
from harness.recipe.policy import Policy
from harness.recipe.training import Lora
from harness.training.policy import load_policy, save_policy


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_saved_weights_follow_the_umask(umask: int, tmp_path: Path) -> None:
    for name in ("model.safetensors", "deeper/adapter_model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.close(os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY, 0o600))
    follow_umask(tmp_path)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*.safetensors")}
    assert modes == {0o666 & ~umask}
    assert len(list(tmp_path.rglob("*"))) == 3


@pytest.mark.parametrize("lora", [None, Lora(r=2)])
def test_a_checkpoint_can_be_read_by_the_group(tiny_model: Path, tmp_path: Path, lora: Lora | None) -> None:
    from transformers import AutoTokenizer

    before = os.umask(0o027)
    try:
        policy = Policy(model=str(tiny_model), dtype="float32")
        model = load_policy(policy, lora, 0)
        save_policy(model, AutoTokenizer.from_pretrained(tiny_model), tmp_path / "checkpoint", policy)
    finally:
        os.umask(before)
    (weights,) = (tmp_path / "checkpoint").glob("*.safetensors")
    assert stat.S_IMODE(weights.stat().st_mode) == 0o640
