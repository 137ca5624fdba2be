"""Embedding models: their transformer is complete, in whichever folder it lies."""

import json
import shutil
from pathlib import Path

import pytest

from harness.errors import ModelError
from harness.models import embedding
from tests.models.checkpoints.edits import drop, edit_weights


@pytest.fixture(params=["", "0_Transformer"])
def folders(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> tuple[Path, Path]:
    """(an embedding model, its transformer), as new and as old versions of sentence-transformers save them."""
    folder = tmp_path / "embedder"
    shutil.copytree(tiny_model, folder / request.param)
    parts = [{"idx": 0, "path": request.param}, {"idx": 1, "path": "1_Pooling"}]
    (folder / "modules.json").write_text(json.dumps(parts))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder, folder / request.param


def test_weights_must_be_complete_but_heads_may_be_left_over(folders: tuple[Path, Path]) -> None:
    folder, transformer = folders
    embedding.check(folder)
    edit_weights(transformer, lambda w: {**w, "lm_head.weight": w["model.embed_tokens.weight"].clone()})
    embedding.check(folder)
    edit_weights(transformer, drop("layers.1"))
    with pytest.raises(ModelError, match="9 missing"):
        embedding.check(folder)


def test_parts_lead_nowhere_else(folders: tuple[Path, Path]) -> None:
    folder, _ = folders
    (folder / "modules.json").write_text('[{"path": "../.."}]')
    with pytest.raises(ModelError, match="expected a path inside the folder"):
        embedding.check(folder)
    (folder / "modules.json").write_text('{"path": 3}')
    with pytest.raises(ModelError, match="expected a list of the parts"):
        embedding.check(folder)
