"""The training behind a board's row: its artifact in the store, and what it says of itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.boards.board import Board
from harness.boards.entry import Entry
from harness.boards.facts import training_key
from harness.boards.read import choose_row, read_board
from harness.engine.store import Artifact, ArtifactRecord, Store
from harness.errors import DataError, StoreError, quoted
from harness.files import store_folder
from harness.models.checkpoints.adapters import base_of
from harness.models.checkpoints.folder import is_adapter
from harness.models.load import Dtype
from harness.outside import read_file
from harness.pipeline.export.links import linked_store
from harness.recipe.policy import Policy
from harness.training.checkpoint import CHECKPOINT, folder_at, in_float32


@dataclass(frozen=True)
class TrainedRow:
    """A row with its training. `board`: the board that it is on; `store`: where `artifact` was found."""

    board: Board
    entry: Entry
    artifact: Artifact
    store: Store

    @property
    def checkpoint(self) -> Path:
        """The deployed policy: an adapter or a whole model, with its tokenizer."""
        return self._at / CHECKPOINT

    @property
    def exact(self) -> Path:
        """What was trained, in float32: an adapter or a whole model."""
        return in_float32(self._at)

    @property
    def _at(self) -> Path:
        point = self.entry.provenance.checkpoint
        return folder_at(self.artifact.folder, point.point if point else None)

    @property
    def is_adapter(self) -> bool:
        """Whether the deployed policy is an adapter."""
        return is_adapter(self.checkpoint)

    @property
    def policy(self) -> dict[str, Any]:
        """The identity of the recipe's policy: `model`, `dtype`, and `revision` (a hub model) or `sha256`."""
        policy: dict[str, Any] = self.artifact.record.params["policy"]
        return policy

    @property
    def dtype(self) -> Dtype:
        """The dtype of the recipe's policy, which a deployed whole model has."""
        dtype: Dtype = self.policy["dtype"]
        return dtype

    @property
    def seed(self) -> int:
        """The seed of the training, and of the rounding of its weights."""
        return int(self.artifact.record.params["seed"])

    @property
    def training(self) -> dict[str, Any]:
        """The training's settings, as its key has them."""
        training: dict[str, Any] = self.artifact.record.params["training"]
        return training

    @property
    def loss(self) -> dict[str, Any]:
        """The loss's name and options, or TRL's; empty for supervised fine-tuning."""
        return {k: v for k, v in self.artifact.record.params.get("loss", {}).items() if k != "source"}

    @property
    def fine_tuned(self) -> str | None:
        """The id of the fine-tuned row that the training started from; None: it started from the recipe's policy."""
        if "sft" not in self.artifact.record.inputs:
            return None
        sft = self.entry.provenance.sft
        return (sft.row if sft else None) or "sft"

    def start(self) -> Policy:
        """The model that the adapter in `exact` was trained on, in the dtype that it was trained on. Raises
        ModelError where that is gone."""
        base = base_of(self.exact)
        dtype: Dtype = "float32" if self.fine_tuned else self.dtype
        return Policy(model=base.model, revision=base.revision, dtype=dtype)

    def dataset(self) -> ArtifactRecord | None:
        """The record of the folder of the ranked dataset that it was trained on; None if the store has none."""
        ranked = self.artifact.record.inputs["ranked"]
        found = []
        for path in sorted(self.store.artifacts.glob("*/artifact.json")):
            if b'"stage": "dataset"' in read_file(path) and (artifact := self.store.find(path.parent.name)):
                found += [artifact.record] if artifact.record.inputs.get("ranked") == ranked else []
        recipe = (self.entry.provenance.recipe or {}).get("name")
        return next((record for record in found if record.params.get("name") == recipe), next(iter(found), None))


def trained_row(source: Path, row: str, store: Path | None = None) -> TrainedRow:
    """The training of a board's row. `store`: where it is; None: the default one, else the one that the board's link
    leads into. Raises DataError for a row that isn't there or wasn't trained, and StoreError where its training is in
    no store."""
    board = read_board(source)
    entry = choose_row(board, row, "--model")
    if (key := training_key(entry)) is None:
        raise DataError(f"{source}: row {quoted(entry.id)} {_why_untrained(entry)}")
    folder = source if source.is_dir() else source.parent
    roots = [store_folder(store)]
    roots += [root for root in [linked_store(folder, entry.id, key)] if store is None and root is not None]
    for root in roots:
        if root.is_dir() and (artifact := (opened := Store(root)).find(key)) is not None:
            return TrainedRow(board, entry, artifact, opened)
    raise StoreError(
        f"{source}: the training of row {quoted(entry.id)}, {key[:12]}, is not in {roots[0]}: the store was moved, or "
        "cache gc removed it; name its store with --store, or run the recipe again"
    )


def _why_untrained(entry: Entry) -> str:
    reasons = {
        "base": "is the policy before training: there is nothing to export but the model that the recipe names",
        "system": "has its answers from a file: there is no model to export",
        "public": "is of a public leaderboard: there is no model to export",
        "reported": "was measured elsewhere: there is no model to export",
    }
    return reasons.get(entry.method, "names no training of its own: run the recipe again")
