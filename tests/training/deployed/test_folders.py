"""The folders that a training leaves: what is deployed, and what was trained where the two differ."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import ModelError
from harness.logprobs.score import score_rows
from harness.losses.mdpo_linear import MdpoLinear
from harness.models import load as models
from harness.models.builtin.fetch import BUILTIN
from harness.models.checkpoints.adapters import Base, base_of, name_base
from harness.recipe.policy import Policy
from harness.recipe.training import Training
from harness.recipe.trl_loss import TrlLoss
from harness.training.deploy import save_result, save_whole
from harness.training.policy import load_policy
from harness.training.ranked.trainer import train_policy
from harness.training.trl.dpo import train_with_trl
from tests.tiny import tiny_causal_lm
from tests.training.models import examples
from tests.training.runs import LENGTHS, LORA, reference_of, weights

DTYPES: list[models.Dtype] = ["float32", "bfloat16"]


def run(base: Path, folder: Path, dtype: models.Dtype = "bfloat16", *, trl: bool = False, **fields: Any) -> Path:
    """The folder of a short training."""
    data, settings = examples(4), {"batch_size": 4, "lora": LORA, "learning_rate": 1e-3, "epochs": 2, **LENGTHS}
    training = Training.model_validate(settings | fields)
    policy = Policy(model=str(base), dtype=dtype)
    options: dict[str, Any] = {"folder": folder, "micro_batch_size": 4, "advance": lambda _n: None, "seed": 3}
    folder.mkdir(parents=True)
    if trl:
        train_with_trl(policy, data, TrlLoss.model_validate({"name": "sigmoid"}), training, **options)
        return folder
    bits = training.lora.bits if training.lora else None
    reference = reference_of(base, data, dtype if training.lora else "float32", bits)
    train_policy(policy, data, reference, MdpoLinear(beta=1.0), training, **options)
    return folder


def kinds(folder: Path) -> dict[str, set[str]]:
    """The files with weights in each folder, and their dtypes."""
    found = {}
    for name in ("checkpoint", "trained"):
        for path in sorted((folder / name).glob("*.safetensors")):
            found[name] = {path.stem, *(str(t.dtype) for t in weights(folder, name).values())}
    return found


ADAPTER = {"adapter_model", "torch.float32"}
WHOLE = {"float32": {"model", "torch.float32"}, "bfloat16": {"model", "torch.bfloat16"}}


@pytest.mark.parametrize("trl", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_only_what_was_rounded_is_there_twice(tiny_model: Path, tmp_path: Path, dtype: models.Dtype, trl: bool) -> None:
    half = dtype == "bfloat16"
    assert kinds(run(tiny_model, tmp_path / "adapter", dtype, trl=trl)) == {"checkpoint": ADAPTER}
    merged = kinds(run(tiny_model, tmp_path / "merged", dtype, trl=trl, merge=True))
    assert merged == {"checkpoint": WHOLE[dtype]} | ({"trained": ADAPTER} if half else {})
    full = kinds(run(tiny_model, tmp_path / "full", dtype, trl=trl, lora=False, merge=True))
    assert full == {"checkpoint": WHOLE[dtype]} | ({"trained": WHOLE["float32"]} if half else {})
    for name in ("merged", "full"):
        assert json.loads((tmp_path / name / "checkpoint" / "config.json").read_text())["dtype"] == dtype


def logps(model: Any, base: Path) -> list[float]:
    rows = [(e.messages, r.text) for e in examples(4) for r in e.responses]
    tokenizer = models.load_tokenizer(str(base))
    return [s.logp for s in score_rows(model, tokenizer, rows, **LENGTHS, batch_size=8, advance=lambda _n: None)]


@pytest.mark.parametrize("bits", [None, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 8))])
def test_a_merged_model_is_the_base_with_its_adapter(tmp_path: Path, bits: int | None) -> None:
    base = tiny_causal_lm(tmp_path / "base", hidden=128)
    if bits:
        pytest.importorskip("bitsandbytes")
    folder = run(base, tmp_path / "run", "float32", lora={"r": 4, "bits": bits}, merge=True)
    merged = models.load_causal_lm(str(folder / "checkpoint"), dtype="float32")
    same = run(base, tmp_path / "same", "float32", lora={"r": 4, "bits": bits})
    adapted = models.with_adapter(models.load_causal_lm(str(base), dtype="float32"), same / "checkpoint")
    assert logps(merged, base) == pytest.approx(logps(adapted, base), abs=1e-3)
    untrained = logps(models.load_causal_lm(str(base), dtype="float32"), base)
    assert logps(merged, base) != pytest.approx(untrained, abs=0.05)


def test_the_seed_decides_how_weights_are_rounded(tiny_model: Path, tmp_path: Path) -> None:
    policy = Policy(model=str(tiny_model), dtype="bfloat16")
    model, tokenizer = load_policy(policy, None, 0), models.load_tokenizer(str(tiny_model))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_whole(model, tokenizer, tmp_path / name, policy, dtype="bfloat16", seed=seed)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("lora", [None, LORA])
def test_weights_gathered_from_processes_are_rounded_like_others(tiny_model: Path, tmp_path: Path, lora: Any) -> None:
    """As with FSDP and DeepSpeed: the model itself holds none, or other ones."""
    policy, training = Policy(model=str(tiny_model), dtype="bfloat16"), Training(lora=lora, merge=True)
    model, tokenizer = load_policy(policy, lora, 0), models.load_tokenizer(str(tiny_model))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1e-3 * torch.randn(parameter.shape))
    gathered = {name: weight.clone() for name, weight in model.state_dict().items()}
    first: dict[int, torch.Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        gathered[name] = first.setdefault(id(parameter), gathered[name])
    options: dict[str, Any] = {"dtype": "bfloat16", "seed": 0}
    save_result(model, tokenizer, tmp_path / "own", policy, training, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    save_result(model, tokenizer, tmp_path / "gathered", policy, training, **options, weights=gathered)
    assert kinds(tmp_path / "own") == kinds(tmp_path / "gathered")
    for name in ("checkpoint", "trained"):
        own, other = weights(tmp_path / "own", name), weights(tmp_path / "gathered", name)
        assert own.keys() == other.keys()
        assert all(torch.equal(own[key], other[key]) for key in own)


def test_an_adapter_finds_its_base_after_a_move(tmp_path: Path) -> None:
    before = tmp_path / "before"
    base = tiny_causal_lm(before / "models" / "base")
    folder = run(base, before / "store" / "run", lora=LORA)
    named = json.loads((folder / "checkpoint" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == "../../../models/base"
    assert not (folder / "checkpoint" / "README.md").exists()  # PEFT's, blank but for the base's path
    expected = logps(models.load_causal_lm(str(folder / "checkpoint"), dtype="float32"), base)
    after = Path(shutil.move(before, tmp_path / "elsewhere" / "after"))
    moved = after / "store" / "run" / "checkpoint"
    models.check(str(moved))
    assert logps(models.load_causal_lm(str(moved), dtype="float32"), after / "models" / "base") == expected
    shutil.move(after / "models" / "base", after / "gone")
    with pytest.raises(ModelError, match=r"there is no base model in .*models/base; set base_model_name_or_path"):
        base_of(moved)


@pytest.mark.parametrize(
    ("model", "revision", "base"),
    [
        ("owner/name", "v1", Base("owner/name", "v1")),
        (next(iter(BUILTIN)), None, Base(next(iter(BUILTIN)), None)),
    ],
)
def test_bases_of_the_hub_and_built_in_ones_keep_their_names(
    tmp_path: Path, model: str, revision: str | None, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": "/some/cache/folder", "revision": None}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / model).mkdir(parents=True)  # no base: a folder of that name in the working folder
    name_base(tmp_path, model, revision)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == model
    if base.model in BUILTIN:
        monkeypatch.chdir(tmp_path)
    assert base_of(tmp_path) == base
