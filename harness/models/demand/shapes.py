"""A model's dimensions, from the best source that this machine has: its files, its configuration, a table of known
models, or the size in its name. Nothing is fetched."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import HarnessError
from harness.files import asset
from harness.memo import once
from harness.models.checkpoints.adapters import base_of
from harness.models.checkpoints.folder import CONFIG, is_adapter, is_whole, read_object, tensors
from harness.models.checkpoints.hub import cached_configuration
from harness.models.load import identity as model_identity
from harness.outside import read_text
from harness.outside_yaml import parse_yaml

_IN_NAME = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z])", re.IGNORECASE)
_SIZES = re.compile(r"(?<![a-z0-9.])(\d+)x(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
"""A mixture's size, as `8x7B`, is no number of parameters: the experts share the attention."""
_ACTIVE = re.compile(r"-a(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
"""The parameters of a mixture that a token is multiplied with, in a name as `30B-A3B`."""
_MIXTURE = re.compile(r"moe|(?<![a-z0-9])\d+e(?![a-z0-9])|gpt-oss", re.IGNORECASE)
"""What says in a name that a model is a mixture, as `17B-16E`. What a size beside it counts, it does not say."""


class Shape(NamedTuple):
    """A decoder's dimensions. `active`: parameters that a token is multiplied with; fewer than `parameters` in a
    mixture of experts. `inner`: the feed-forward width that a token sees. `queries`, `keys`: widths, heads times their
    size."""

    parameters: int
    active: int
    hidden: int
    layers: int
    inner: int
    queries: int
    keys: int
    vocabulary: int

    @property
    def adapted(self) -> int:
        """The sum of inputs and outputs of all linear layers but the head: an adapter of rank r has r times as many
        parameters."""
        attention = 2 * (self.hidden + self.queries) + 2 * (self.hidden + self.keys)
        return self.layers * (attention + 3 * (self.hidden + self.inner))

    @property
    def embeddings(self) -> int:
        """Parameters of the embeddings."""
        return self.vocabulary * self.hidden


def shape_of(model: str, revision: str | None = None) -> Shape | None:
    """A model's dimensions; None if nothing tells. Those of an adapter are its base's."""
    return once(("shape", model, revision), lambda: _shape_of(model, revision))


def _shape_of(model: str, revision: str | None) -> Shape | None:
    try:
        folder = _folder(model, revision)
        if folder is not None and is_adapter(folder) and not is_whole(folder):
            base = base_of(folder)
            return shape_of(base.model, base.revision)
        counted = _counted(folder)
        if folder is not None and (folder / CONFIG).exists():
            return _described(read_object(folder / CONFIG, folder), counted)
    except HarnessError:
        return None  # only an estimate: loading reports the bad file
    if (known := _known().get(model)) is not None:
        return Shape(active=known["parameters"], **known)
    name = Path(model).name
    size, active = counted or size_in_name(name), _ACTIVE.search(name)
    if size is None:
        return None
    shape = _typical(size)
    return shape._replace(active=min(size, round(float(active[1]) * 1e9))) if active else shape


def _folder(model: str, revision: str | None) -> Path | None:
    if Path(model).is_absolute():
        return Path(model)
    if "/" not in model:
        return None  # built in
    config = cached_configuration(model, revision)
    return config.parent if config else None


def _counted(folder: Path | None) -> int | None:
    """The parameters in a folder's weight files, by their headers. Raises ModelError."""
    files = sorted(folder.glob("*.safetensors")) if folder else []
    return sum(math.prod(tensor.shape) for tensor in tensors(files, folder).values()) if files and folder else None


@cache
def _known() -> Mapping[str, Mapping[str, int]]:
    table: Mapping[str, Mapping[str, int]] = parse_yaml(read_text(asset("model_shapes.yaml"), 2**16))
    return table


def size_in_name(name: str) -> int | None:
    """Parameters by what a model's name says, as `7B` or `135m`; the last of several. None for none."""
    if _SIZES.search(name) or (_MIXTURE.search(name) and not _ACTIVE.search(name)):
        return None
    sizes = _IN_NAME.findall(name)
    return round(float(sizes[-1][0]) * (1e9 if sizes[-1][1] in "bB" else 1e6)) if sizes else None


def _typical(parameters: int) -> Shape:
    """Dimensions of a decoder with so many parameters: P = 12 L h^2 (arXiv 2001.08361, without embeddings) and
    h = 128 L, which 7B models have."""
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    hidden = 128 * layers
    return Shape(parameters, parameters, hidden, layers, 7 * hidden // 2, hidden, hidden // 2, 64_000)


def _described(config: Mapping[str, Any], counted: int | None) -> Shape | None:
    """By a configuration, of any of transformers' usual spellings; of a model of several modalities, its text's."""
    text = config.get("text_config")
    fields = text if isinstance(text, Mapping) else config

    def field(*names: str) -> int | None:
        values = (fields.get(name) for name in names)
        return next((value for value in values if type(value) is int and value > 0), None)

    hidden, layers = field("hidden_size", "n_embd", "d_model", "dim"), field("num_hidden_layers", "n_layer", "n_layers")
    if hidden is None or layers is None:
        return _typical(counted) if counted else None
    heads = field("num_attention_heads", "n_head", "n_heads") or 1
    size = field("head_dim") or max(1, hidden // heads)
    queries, keys = heads * size, (field("num_key_value_heads") or heads) * size
    vocabulary = field("vocab_size") or 32_000
    experts = field("num_experts", "num_local_experts", "n_routed_experts") or 1
    used = (field("num_experts_per_tok") or 1) if experts > 1 else 1
    width = field("intermediate_size", "n_inner", "ffn_dim", "hidden_dim") or 4 * hidden
    width = (field("moe_intermediate_size") or width) if experts > 1 else width
    tied = fields.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    expert = 3 * layers * hidden * width
    whole = vocabulary * hidden * (1 if tied else 2) + 2 * layers * hidden * (queries + keys) + expert * experts
    parameters = counted or whole
    active = round(parameters * (whole - expert * (experts - used)) / whole)
    return Shape(parameters, active, hidden, layers, used * width, queries, keys, vocabulary)


def models_of_unknown_size(models: Sequence[str]) -> list[str]:
    """Names of those models whose dimensions are unknown."""
    return [model_identity(model)["model"] for model in models if shape_of(model) is None]
