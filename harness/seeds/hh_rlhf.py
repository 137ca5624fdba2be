"""Anthropic's helpful and harmless preferences: crowd workers' choices between two endings of a conversation."""

from typing import ClassVar, Literal

from harness.protocols import Origin
from harness.seeds._base import PublicSet


class HhRlhf(PublicSet):
    """Anthropic/hh-rlhf (about 161,000 rows in `train`, 8,500 in `test`: chosen and rejected are transcripts
    "\\n\\nHuman: ...\\n\\nAssistant: ..."): Bai et al. 2022, https://arxiv.org/abs/2204.05862. The common
    beginning of both transcripts is the prompt, of one or several turns. A row whose transcripts differ before the last
    answer is left out and counted. `data_dir`: one of its parts; by default all four, sorted by name. `path`: a file or
    folder to use instead of the hub. `limit`: use only the first pairs. `weight`: the share of them to use. Raises
    DataError.
    """

    published: ClassVar[Origin] = Origin("MIT", "https://huggingface.co/datasets/Anthropic/hh-rlhf")
    dataset: ClassVar[str] = "Anthropic/hh-rlhf"

    revision: str = "09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa"
    data_dir: Literal["harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled"] | None = None
    split: Literal["train", "test"] = "train"
    """Which part of the set."""

    def patterns(self) -> tuple[str, ...]:
        file = f"{self.data_dir or '*'}/{self.split}.jsonl"
        return (f"{file}.gz", file)
