"""What a row's base is called on the hub, and the licence that its card there names."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.engine.store import Artifact, ArtifactRecord, Store
from harness.pipeline.export.base import Base, Licence, hub_base
from harness.pipeline.export.row import TrainedRow

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def snapshot(cache: Path, card: str = "") -> Path:
    folder = cache / "models--o--n" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(card)
    return folder


def row(tmp_path: Path, policy: dict[str, Any], base: str = "", **inputs: str) -> TrainedRow:
    """A row whose artifact holds an adapter for `base`, a path relative to it."""
    folder = tmp_path / "artifact"
    (folder / "checkpoint").mkdir(parents=True)
    named = {"base_model_name_or_path": base, "revision": None, "peft_type": "LORA"}
    (folder / "checkpoint" / "adapter_config.json").write_text(json.dumps(named))
    fields: dict[str, Any] = {"files": {}, "report": {}, "made_by": {}, "seconds": 0, "inputs": inputs}
    record = ArtifactRecord(key="k", stage="train", version=3, params={"policy": policy}, **fields)
    board = Board(name="b", generated=None, entries=())
    return TrainedRow(board, Entry(id="dpo", method="dpo"), Artifact(folder, record), Store(tmp_path / "store"))


def test_a_built_in_model_is_the_one_that_was_quantised(tmp_path: Path) -> None:
    base = hub_base(row(tmp_path, {"model": "smollm2-135m-instruct", "sha256": "x"}), None, adapter=True)
    assert base is not None
    assert (base.model, base.licence) == ("HuggingFaceTB/SmolLM2-135M-Instruct", Licence("apache-2.0"))
    assert "quantised to 4 bits" in base.variant


def test_a_hub_model_is_the_commit_that_was_trained(tmp_path: Path, cache: Path) -> None:
    snapshot(cache, "---\nlicense: other\nlicense_name: nobodys\nlicense_link: LICENSE\nlanguage: en\n---\n")
    base = hub_base(row(tmp_path, {"model": "o/n", "revision": COMMIT}), None, adapter=False)
    assert base == Base("o/n", COMMIT, "", Licence("other", "nobodys", "LICENSE"), ("en",))


def test_a_hub_model_whose_commit_is_not_known(tmp_path: Path) -> None:
    base = hub_base(row(tmp_path, {"model": "o/n", "revision": "main"}), None, adapter=False)
    assert base == Base("o/n")


def test_a_folder_of_the_hub_cache_is_a_hub_model(tmp_path: Path, cache: Path) -> None:
    snapshot(cache, "---\nlicense: mit\n---\n")
    policy = {"model": COMMIT, "sha256": "x"}
    trained = row(tmp_path, policy, f"../../hub/models--o--n/snapshots/{COMMIT}")
    assert hub_base(trained, None, adapter=True) == Base("o/n", COMMIT, "", Licence("mit"))


def test_what_is_on_this_machine_only_has_no_name_but_the_users(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    local = row(tmp_path, {"model": "model", "sha256": "x"}, "../../model")
    assert hub_base(local, None, adapter=True) is None
    assert hub_base(local, "o/n@v1.0", adapter=True) == Base("o/n", "v1.0")
    tuned = row(tmp_path / "tuned", {"model": "o/n", "revision": COMMIT}, "../../model", sft="k")
    assert hub_base(tuned, None, adapter=True) is None
    assert hub_base(tuned, None, adapter=False) == Base("o/n", COMMIT)


@pytest.mark.parametrize(
    "card",
    [
        "",
        "no header",
        "---\nlicense: [mit]\n---\n",
        "---\nlicense: 'mit\\n---\\n# A'\n---\n",
        "---\n- a\n---\n",
        "---\na: [\n---\n",
        "---\nlanguage: [a, 1, en; rm]\n---\n",
    ],
)
def test_a_card_that_says_nothing_of_use(card: str, tmp_path: Path, cache: Path) -> None:
    snapshot(cache, card)
    base = hub_base(row(tmp_path, {"model": "o/n", "revision": COMMIT}), None, adapter=False)
    assert base == Base("o/n", COMMIT)
