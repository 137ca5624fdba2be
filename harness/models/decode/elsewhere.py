"""What this process knows of a model that another program decodes: where its texts end, how many tokens fit, and how
their tokens read; as if they had been decoded here."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.models.batching import Job
from harness.models.builtin.fetch import BUILTIN
from harness.models.checkpoints import hub
from harness.models.decode.rows import EMPTY, Ending, Sample, samples_of
from harness.models.facts import configurations
from harness.models.load import local_path
from harness.types import Completion

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Elsewhere:
    """The model is a built-in name, a folder or a hub id; `window`: the most tokens that its server takes; None: as
    many as the model. Loads its configuration, not its weights."""

    def __init__(
        self, model: str, revision: str | None, tokenizer: "PreTrainedTokenizerBase", window: int | None
    ) -> None:
        named = model in BUILTIN or Path(model).is_absolute()
        folder = Path(local_path(model)) if named else hub.configuration(model, revision).parent
        config, generation = configurations(folder)
        self._ending = Ending.declared(tokenizer, config, generation)
        positions = getattr(config.get_text_config(), "max_position_embeddings", None)
        self._window = min(window or 1 << 30, positions or 1 << 30)

    @property
    def ends(self) -> list[int]:
        """The ids of the tokens that end a text."""
        return sorted(self._ending.tokens)

    def samples(self, request: int, job: Job) -> list[Sample]:
        """The samples of a job; one with a limit of 0 or less has no room for a text."""
        return samples_of(request, job, self._window)

    def completion(self, sample: Sample, written: Sequence[int]) -> Completion:
        """A sample by its tokens, with the one that ended it."""
        if not written:
            return EMPTY
        row = self._ending.row(sample, 0)
        row.written = list(written)
        return self._ending.completion(row)
