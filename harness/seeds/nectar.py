"""Nectar: seven answers to each prompt, ranked by GPT-4."""

from typing import ClassVar, Literal

from harness.protocols import Origin
from harness.seeds._base import PublicSet


class Nectar(PublicSet):
    """berkeley-nest/Nectar (182,954 prompts, each with seven answers by several models and their ranks), which
    Starling's reward model was trained on. A response's score is its negative rank, which carries only the order. For
    `data.ranked`: all answers are kept. `path`: a file or folder to use instead of the hub. `limit`: use only the first
    prompts. `weight`: the share of them to use. Raises DataError.
    """

    published: ClassVar[Origin] = Origin("Apache-2.0", "https://huggingface.co/datasets/berkeley-nest/Nectar")
    dataset: ClassVar[str] = "berkeley-nest/Nectar"
    _ranks: ClassVar[bool] = True

    revision: str = "3c6b4c47fa1cc38869f9f32dce1699f7abad8b06"
    rankings: Literal[True] = True
    """Its rows are rankings."""

    def patterns(self) -> tuple[str, ...]:
        return ("data/*.parquet", "*.parquet", "**/*.parquet", "*.jsonl", "*.json")
