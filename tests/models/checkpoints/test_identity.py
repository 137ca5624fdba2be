"""A model's identity is everything that loading it reads, whatever sizes and times say; and no path."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from harness.models import load as models
from harness.models.checkpoints import stamps
from tests.models.checkpoints.edits import edit_json, edit_weights, into_shards


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_an_ordinary_folder_is_identified_as_ever(model: Path) -> None:
    """The formula of all versions so far: keys of stages stay."""
    lines = [f"{p.name}:{hashlib.sha256(p.read_bytes()).hexdigest()}\n" for p in sorted(model.iterdir())]
    assert {p.suffix for p in model.iterdir()} <= {".json", ".safetensors", ".jinja"}
    expected = {"model": "model", "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}
    assert models.identity(str(model)) == expected
    for beside in ("README.md", ".gitattributes", "training_args.bin", "optimizer.pt", "LICENSE", "train.log", "x.py"):
        (model / beside).write_text("beside")
    (model / "checkpoint-500").mkdir()
    shutil.copy(model / "model.safetensors", model / "checkpoint-500")
    assert models.identity(str(model)) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("qwen.tiktoken", "vocab.bpe", "merges.txt", "vocab.txt", "source.spm", "spiece.model", "bpe.codes"),
        *("x.tokenizer", "generation_config.json", "chat_template.jinja", "additional_chat_templates/rag.jinja"),
        *("special_tokens_map.json", "chat_template.json", "words.dict"),
    ],
)
def test_every_file_that_may_be_loaded_counts(model: Path, name: str) -> None:
    path = model / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    first = models.identity(str(model))
    path.write_text("[]")
    assert models.identity(str(model)) != first


def test_shards_in_sub_folders_count(model: Path) -> None:
    into_shards(model, ["a.safetensors", "deeper/b.safetensors"])
    first = models.identity(str(model))
    edit_weights(model, lambda w: {name: weight + 1 for name, weight in w.items()}, "deeper/b.safetensors")
    assert models.identity(str(model)) != first


def test_the_parts_of_an_embedding_model_count(model: Path) -> None:
    parts = [{"idx": 0, "path": ""}, {"idx": 1, "path": "1_Pooling"}, {"idx": 2, "path": "2_Dense"}]
    (model / "modules.json").write_text(json.dumps(parts))
    for part in ("1_Pooling", "2_Dense"):
        (model / part).mkdir()
        (model / part / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    shutil.copy(model / "model.safetensors", model / "2_Dense")
    first = models.identity(str(model))
    edit_json(model, "1_Pooling/config.json", pooling_mode_mean_tokens=False)
    second = models.identity(str(model))
    edit_weights(model / "2_Dense", lambda w: {name: weight + 1 for name, weight in w.items()})
    assert len({json.dumps(i) for i in (first, second, models.identity(str(model)))}) == 3


def rewrite(path: Path, data: bytes) -> None:
    """Write other bytes of the same number into the same file, and set its time back."""
    times = path.stat()
    assert len(data) == times.st_size
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced(path: Path, data: bytes) -> None:
    """Put another file of the same size and time in its place, as `cp --preserve` and `mv` do."""
    times = path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(data)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(other, path)


@pytest.mark.parametrize("change", [rewrite, replaced])
@pytest.mark.parametrize("settled", [-1.0, stamps.SETTLED])
def test_other_weights_of_the_same_size_and_time(
    model: Path, change, settled: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "SETTLED", settled)
    path = model / "model.safetensors"
    first = models.identity(str(model))
    assert models.identity(str(model)) == first
    time.sleep(0.02)  # more than a tick of the file system's clock
    change(path, path.read_bytes()[:-1] + b"\x01")
    assert models.identity(str(model)) != first


def test_hashes_are_kept_once_files_are_settled(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.identity(str(model))
    hashes = Path(os.environ["HARNESS_HOME"]) / "model-hashes"
    assert not hashes.exists()
    monkeypatch.setattr(stamps, "SETTLED", -1.0)
    models.identity(str(model))
    (kept,) = hashes.iterdir()
    kept.write_text("as kept")
    assert models.identity(str(model))["sha256"] == "as kept"


def test_what_is_computed_while_a_file_changes_is_not_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "SETTLED", -1.0)
    path, kept = model / "config.json", Path(os.environ["HARNESS_HOME"]) / "sizes"

    def changing() -> str:
        size = str(path.stat().st_size)
        path.write_bytes(path.read_bytes() + b" ")
        return size

    stamps.cached("sizes", model, [path], changing)
    assert not kept.exists()
    assert stamps.cached("sizes", model, [path], lambda: "still") == "still"
    assert stamps.cached("sizes", model, [path], lambda: "else") == "still"
