"""Folders from strangers: nothing outside is read, nothing hangs, and every refusal is one line."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.errors import ModelError
from harness.models import load as models
from tests.models.checkpoints.edits import edit_json, into_shards


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def refused(model: Path, message: str) -> None:
    """The folder is refused in one line by everything that would read it."""
    for action in (models.check, models.load_causal_lm):
        with pytest.raises(ModelError, match=message) as raised:
            action(str(model))
        assert "\n" not in str(raised.value)


def index(model: Path, file: object) -> None:
    (model / "model.safetensors").rename(model / "weights.safetensors")
    weight_map = {"model.norm.weight": "weights.safetensors", "x": file}
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("file", ["../other/model.safetensors", "/etc/passwd", "a/../../x.safetensors", "a\\b", "", 7])
def test_an_index_that_leads_outside_is_refused(model: Path, file: object) -> None:
    shutil.copytree(model, model.parent / "other")
    index(model, file)
    refused(model, "expected a path inside the folder|only safetensors are loaded")


def test_an_index_that_names_a_pickle_is_refused(model: Path) -> None:
    index(model, "pytorch_model.bin")
    torch.save({}, model / "pytorch_model.bin")
    refused(model, "names pytorch_model.bin as weights; only safetensors are loaded")


@pytest.mark.parametrize("weight_map", [None, [], {}, "x"])
def test_an_index_without_a_map_is_refused(model: Path, weight_map: object) -> None:
    index(model, "x")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused(model, "has no weight_map")


def test_links_lead_nowhere_else(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (model / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    refused(model, "model.safetensors can't be read: it leads out of")
    (model / "model.safetensors").unlink()
    (tmp_path / "elsewhere.safetensors").rename(model / "real.safetensors")
    (model / "model.safetensors").symlink_to("real.safetensors")
    models.check(str(model))
    (tmp_path / "link").symlink_to(model)
    models.check(str(tmp_path / "link"))


def test_a_shard_folder_may_not_be_a_link(model: Path, tmp_path: Path) -> None:
    into_shards(model, ["a.safetensors", "deeper/b.safetensors"])
    shutil.move(model / "deeper", tmp_path / "deeper")
    (model / "deeper").symlink_to(tmp_path / "deeper")
    refused(model, "b.safetensors can't be read: it leads out of")


def test_the_hub_caches_own_links_are_fine(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`snapshots/<commit>` in a cache, and a download into a folder of one's own that links to the user's cache."""
    cache = tmp_path / "hub"
    repository = cache / "models--a--b"
    snapshot = repository / "snapshots" / "0123"
    for folder in (repository / "blobs", snapshot, own := tmp_path / "own"):
        folder.mkdir(parents=True)
    for i, path in enumerate(sorted(model.iterdir())):
        shutil.copy(path, repository / "blobs" / str(i))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(i))
        (own / path.name).symlink_to(repository / "blobs" / str(i))
    models.check(str(snapshot))
    models.load_causal_lm(str(snapshot))
    with pytest.raises(ModelError, match="leads out of"):
        models.check(str(own))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    models.check(str(own))


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"),
        *("model.safetensors.index.json", "chat_template.jinja", "merges.txt", "odd.tiktoken"),
    ],
)
def test_a_fifo_hangs_nothing(model: Path, name: str) -> None:
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    refused(model, f"{name} can't be read: it is a FIFO")
    with pytest.raises(ModelError, match="it is a FIFO"):
        models.load_tokenizer(str(model))
    with pytest.raises(ModelError, match="it is a FIFO"):
        models.identity(str(model))


def test_a_tokenizer_of_gigabytes_is_refused(model: Path) -> None:
    with (model / "tokenizer.json").open("wb") as file:
        file.truncate(1 << 40)
    refused(model, "tokenizer.json has 1,099,511,627,776 bytes")


def test_devices_and_templates_in_folders(model: Path) -> None:
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "rag.jinja").symlink_to("/dev/zero")
    refused(model, "it leads out of")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 10**8}, "num_hidden_layers is 100,000,000, but the weights have 20 tensors"),
        ({"num_hidden_layers": 21}, "num_hidden_layers is 21, but the weights have 20 tensors"),
        ({"num_hidden_layers": 1e8}, "num_hidden_layers is 100,000,000"),
        ({"num_attention_heads": 10**8}, "num_attention_heads is 100,000,000; expected at most"),
        ({"num_labels": 10**8}, "num_labels is 100,000,000; expected at most"),
        ({"text_config": {"depth": 10**6}}, "depth is 1,000,000; expected at most"),
        ({"model_type": "gpt_neo", "attention_types": [[["global"], 10**8]]}, "attention_types is 100,000,000"),
        ({"model_type": "gpt2", "n_layer": 10**7}, "n_layer is 10,000,000"),
        ({"vocab_size": 10**12}, "vocab_size is 1,000,000,000,000"),
        ({"hidden_size": 1 << 28, "head_dim": 8}, "of another shape"),
        ({"vocab_size": 1 << 30}, r"of another shape \(.*\[259, 32\] instead of \[1073741824, 32\]"),
    ],
)
def test_a_configuration_of_absurd_size_is_refused_before_a_model_is_built(
    model: Path, fields: dict[str, object], message: str
) -> None:
    edit_json(model, "config.json", **fields)
    refused(model, message)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b'{"a": 1, "a": 2}'),
        ("config.json", b"[" * 200 + b"]" * 200),
        ("generation_config.json", b"{"),
        ("generation_config.json", b'"x"'),
        ("tokenizer_config.json", b"\xff\xfe\xff"),
        ("special_tokens_map.json", b"[]"),
    ],
)
def test_json_that_is_none_is_named(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    refused(model, f"{name} is not (JSON|a JSON object)")


def test_infinity_in_a_configuration_is_fine(model: Path) -> None:
    config = (model / "config.json").read_text()
    (model / "config.json").write_text(config[: config.rindex("}")] + ', "time_step_limit": [0.0, Infinity]}')
    models.check(str(model))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"transformers_weights": "../model/model.safetensors"}, "expected a path inside the folder"),
        ({"transformers_weights": "weights.bin"}, "only safetensors are loaded"),
        ({"model_type": "no-such-type"}, "can't be loaded"),
        ({"model_type": None}, "can't be loaded"),
        ({"hidden_act": "no-such-activation"}, "can't be loaded"),
        ({"num_attention_heads": 0}, "can't be loaded"),
        ({"hidden_size": "many"}, "can't be loaded"),
        ({"rope_scaling": {"rope_type": "no-such"}}, "can't be loaded|unexpected|missing"),
        ({"auto_map": {"AutoModelForCausalLM": "code.Model"}, "model_type": "own"}, "can't be loaded"),
        ({"attn_implementation": "kernels-community/flash-attn"}, "names code on the hub"),
        ({"text_config": {"_attn_implementation": "a/b"}}, "names code on the hub"),
        ({"pad_token_id": 259}, "can't be loaded|pad_token_id"),
    ],
)
def test_odd_configurations_are_one_line(model: Path, fields: dict[str, object], message: str) -> None:
    edit_json(model, "config.json", **fields)
    refused(model, message)


def test_a_broken_generation_configuration_is_one_line(model: Path) -> None:
    (model / "generation_config.json").write_text('{"temperature": "warm", "cache_implementation": 3}')
    refused(model, "can't be loaded")


def header(entries: object, data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        header({"a": 1}),
        header({"a": {"dtype": "F32", "shape": [2, -3], "data_offsets": [0, 0]}}),
        header({"a": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 1 << 62]}}),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, b"1234"),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, b"1234"),
    ],
)
def test_headers_that_are_none(model: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)
    refused(model, "is not a safetensors file, or is truncated")


def test_parts_of_a_distributed_checkpoint_are_refused(model: Path) -> None:
    shutil.copy(model / "model.safetensors", model / "shard-00000-model-00001-of-00002.safetensors")
    refused(model, "part of a distributed checkpoint")


def test_files_that_are_never_loaded_may_be_anything(model: Path, tmp_path: Path) -> None:
    os.mkfifo(model / "run.log")
    (model / "README.md").symlink_to(tmp_path / "nowhere")
    (model / "events.out.tfevents.1.host.0").symlink_to("/dev/zero")
    (model / "checkpoint-5").mkdir()
    os.mkfifo(model / "checkpoint-5" / "config.json")
    models.check(str(model))
    models.load_causal_lm(str(model))
    models.identity(str(model))


def test_a_folder_in_the_working_folder_is_no_hub_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner").mkdir()
    model.rename(tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    for action in (models.check, models.load_causal_lm, models.load_tokenizer):
        action_of: Callable[[str], object] = action
        with pytest.raises(ModelError, match="is a hub id and a folder"):
            action_of("owner/name")
