"""Tokenizers by a model's name, with what the model can't do without: padding, an end, and an embedding per token."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ModelError
from harness.models import chat
from harness.models.builtin.fetch import BUILTIN, builtin_folder
from harness.models.checkpoints import adapters, hub
from harness.models.checkpoints.complete import quiet, readable
from harness.models.checkpoints.folder import CONFIG, check_regular, is_adapter, is_whole
from harness.printable import printable
from harness.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(model: str, revision: str | None = None) -> "PreTrainedTokenizerBase":
    """The model's tokenizer. If it has no padding token, or one that the model has no embedding for, the token that
    ends a turn or a text is used for padding. Raises ModelError, also if a token of the vocabulary or of the chat
    template has no embedding."""
    from transformers import AutoTokenizer

    path = str(builtin_folder(model)) if model in BUILTIN else model
    if Path(model).is_absolute():
        check_regular(Path(model))
    elif model not in BUILTIN:
        hub.refuse_folder(model)
        config = hub.cached_configuration(model, revision)
        if config and is_adapter(config.parent) and not is_whole(config.parent):
            path = str(hub.fetch_adapter(model, revision))
    rows = None if model in BUILTIN else _embedding_rows(model, revision)
    with readable(model), quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=revision if path == model else None, trust_remote_code=False
        )
    if rows is not None:
        _check_embeddings(tokenizer, model, rows)
    pad = tokenizer.pad_token_id
    if pad is None or (rows is not None and pad >= rows):
        end = tokenizer.eos_token_id
        tokenizer.pad_token_id = chat.end_of_turn(tokenizer) if end is None else end
    return tokenizer


def _embedding_rows(model: str, revision: str | None) -> int | None:
    """The size of the model's vocabulary by its configuration; None if that isn't at hand (a repository that holds a
    tokenizer alone) or an adapter may have changed it."""
    from transformers import AutoConfig

    try:
        folder = Path(model) if Path(model).is_absolute() else hub.configuration(model, revision).parent
    except ModelError:
        return None
    if is_adapter(folder) and not is_whole(folder):
        base = adapters.base_of(folder)
        resized = adapters.saves_embeddings(folder)
        return None if resized or base.model in BUILTIN else _embedding_rows(base.model, base.revision)
    if not (folder / CONFIG).exists():
        return None
    with readable(model), quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    size: Any = getattr(config.get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) else None


def _check_embeddings(tokenizer: "PreTrainedTokenizerBase", model: str, rows: int) -> None:
    """Refuse tokens that a text or a conversation may contain and that have no embedding: looking one up fails, or
    reads other memory. Added tokens that aren't used are fine, as many models have some."""
    added = tokenizer.added_tokens_decoder
    beyond = {token: i for token, i in tokenizer.get_vocab().items() if i >= rows}
    spelt = sorted(token for token, i in beyond.items() if i not in added or not added[i].special)
    if spelt:
        names = printable(", ".join(spelt[:3]), 120)
        raise ModelError(
            f"{model}: {len(spelt)} tokens of its tokenizer ({names}) have no embedding, "
            f"as the model has only {rows}; use its own tokenizer, or resize its embeddings and save it again"
        )
    if beyond:
        ids = {*chat.encode_prompt(tokenizer, [Message(role="user", content="x")]), chat.end_of_turn(tokenizer)}
        if without := sorted(i for i in ids if i >= rows):
            names = printable(", ".join(map(str, tokenizer.convert_ids_to_tokens(without))), 120)
            raise ModelError(
                f"{model}: a conversation contains {names}, for which the model has no embedding, as it has only "
                f"{rows}; resize its embeddings and save it again"
            )
