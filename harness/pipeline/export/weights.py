"""The files of an exported model: an adapter as it was trained, or a whole model in a dtype; with the tokenizer."""

from pathlib import Path
from typing import NamedTuple

from harness.models.checkpoints.adapters import name_base
from harness.models.checkpoints.folder import CONFIG, is_adapter, read_object
from harness.models.checkpoints.saving import follow_umask
from harness.models.load import Dtype
from harness.pipeline.export.base import Base
from harness.pipeline.export.row import TrainedRow


class Written(NamedTuple):
    """What an exported folder holds. `dtype`: of a whole model's weights; of adapters, that of the base on which they
    were trained and answer. `judged`: these are the weights that the board's figures are of. `own_template`: the
    tokenizer's chat template is the base's."""

    adapter: bool
    dtype: Dtype
    judged: bool
    own_template: bool


def write_adapter(row: TrainedRow, folder: Path, base: Base) -> Written:
    """Write a row's adapter into an empty folder. It names its base by its id on the hub."""
    _copy(row, folder)
    name_base(folder, base.model, base.revision)
    dtype: Dtype = "float32" if row.fine_tuned else row.dtype
    return Written(True, dtype, True, _with_template(row, folder))


def write_whole(row: TrainedRow, folder: Path, dtype: Dtype | None) -> Written:
    """Write a row's whole model into an empty folder: its adapter is merged in float32. `dtype`: float32, or rounded
    stochastically with the training's seed, as training rounds what it deploys; None: the recipe's."""
    dtype = dtype or row.dtype
    deployed = not row.is_adapter and _stored_dtype(row) == dtype
    if deployed:
        _copy(row, folder)
    else:
        _round(row, folder, dtype)
    return Written(False, dtype, deployed, _with_template(row, folder))


def _stored_dtype(row: TrainedRow) -> object:
    return read_object(row.checkpoint / CONFIG, row.checkpoint).get("dtype")


def _round(row: TrainedRow, folder: Path, dtype: Dtype) -> None:
    """Write the whole model that was trained, in float32, in another dtype."""
    from harness.models.checkpoints.complete import quiet
    from harness.models.load import load_causal_lm, load_tokenizer
    from harness.recipe.policy import Policy
    from harness.training.deploy import merged, save_in

    tokenizer = load_tokenizer(str(row.checkpoint))
    start = row.start() if is_adapter(row.exact) else Policy(model=str(row.exact), dtype="float32")
    with quiet():
        model = merged(start, row.exact) if is_adapter(row.exact) else load_causal_lm(start.model, None, "float32")
        save_in(dtype, model, tokenizer, folder, start, row.seed)


def _copy(row: TrainedRow, folder: Path) -> None:
    """Copy the deployed policy's files, but not a card that training libraries have left there. Raises StoreError for
    one whose content has changed."""
    deployed = row.checkpoint.relative_to(row.artifact.folder)
    for name in row.artifact.record.files:
        relative = Path(name).relative_to(deployed) if Path(name).is_relative_to(deployed) else None
        if relative is not None and relative.name != "README.md":
            row.artifact.copy(name, folder / relative)
    follow_umask(folder)


def _with_template(row: TrainedRow, folder: Path) -> bool:
    """Give a tokenizer without a chat template the one by which its prompts were written. Returns whether it has its
    own, unchanged by the recipe."""
    from harness.models.load import load_tokenizer
    from harness.models.templates.rendering import PLAIN_TEMPLATE

    if load_tokenizer(str(row.checkpoint)).chat_template:
        return not row.policy.get("chat_template_kwargs")
    (folder / "chat_template.jinja").write_text(PLAIN_TEMPLATE, encoding="utf-8")
    return False
