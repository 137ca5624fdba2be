"""Anthropic's helpful and harmless preferences: crowd workers' choices between two ends of a conversation."""

from typing import ClassVar, Literal

from harness.seed_set import PublicSet


class HhRlhf(PublicSet):
    """Anthropic/hh-rlhf (about 161,000 rows in `train`, 8,500 in `test`: chosen and rejected are transcripts
    "\\n\\nHuman: ...\\n\\nAssistant: ..."): Bai et al. 2022, https://arxiv.org/abs/2204.05862. What both transcripts
    share is the prompt, of one turn or several; a row whose transcripts part before the last answer is left out and
    counted. `data_dir`: one of its parts, else all four, in the order of their names. `path`: a file or folder to use
    instead of the hub; `limit` takes the first pairs only; `weight` is the share of them to take. Raises DataError.
    """

    home: ClassVar[str | None] = "https://huggingface.co/datasets/Anthropic/hh-rlhf"
    licence: ClassVar[str | None] = "MIT"
    dataset: ClassVar[str] = "Anthropic/hh-rlhf"

    revision: str = "09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa"
    data_dir: Literal["harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled"] | None = None
    split: Literal["train", "test"] = "train"

    def patterns(self) -> tuple[str, ...]:
        file = f"{self.data_dir or '*'}/{self.split}.jsonl"
        return (f"{file}.gz", file)
