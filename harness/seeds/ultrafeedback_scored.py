"""UltraFeedback with all four answers to each prompt and GPT-4's scores of them."""

from typing import ClassVar, Literal

from harness.protocols import Origin
from harness.seeds._base import PublicSet


class UltrafeedbackScored(PublicSet):
    """openbmb/UltraFeedback (63,967 prompts, each with answers by four of 17 models; Cui et al. 2023,
    https://arxiv.org/abs/2310.01377). A response's score is GPT-4's `overall_score`, 1 to 10, at a commit after the
    correction of December 2023; before it, some of the worst answers had a 10. For `data.ranked`: all answers are kept.
    `path`: a file or folder to use instead of the hub. `limit`: use only the first prompts. `weight`: the share of them
    to use. Raises DataError.
    """

    published: ClassVar[Origin] = Origin("MIT", "https://huggingface.co/datasets/openbmb/UltraFeedback")
    dataset: ClassVar[str] = "openbmb/UltraFeedback"
    _ranks: ClassVar[bool] = True

    revision: str = "40b436560ca83a8dba36114c22ab3c66e43f6d5e"
    rankings: Literal[True] = True
    """Its rows are rankings."""

    def patterns(self) -> tuple[str, ...]:
        return ("*.jsonl", "*.parquet", "**/*.parquet", "*.json")
