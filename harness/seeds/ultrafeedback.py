"""UltraFeedback, binarized: the best of four models' answers versus another of them, as scored by GPT-4."""

from typing import ClassVar, Literal

from harness.data.pairs import Columns
from harness.protocols import Origin
from harness.seeds._base import PublicSet


class Ultrafeedback(PublicSet):
    """HuggingFaceH4/ultrafeedback_binarized (61,135 rows in `train_prefs`, 2,000 in `test_prefs`: prompt; chosen and
    rejected as messages), which Zephyr was trained on: UltraFeedback (Cui et al. 2023,
    https://arxiv.org/abs/2310.01377). `path`: a file or folder to use instead of the hub. `limit`: use only the first
    pairs. `weight`: the share of them to use. Raises DataError.
    """

    published: ClassVar[Origin] = Origin("MIT", "https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized")
    dataset: ClassVar[str] = "HuggingFaceH4/ultrafeedback_binarized"
    columns: ClassVar[Columns | None] = Columns(prompt="prompt")

    revision: str = "3949bf5f8c17c394422ccfab0c31ea9c20bdeb85"
    split: Literal["train_prefs", "test_prefs"] = "train_prefs"
    """Which part of the set."""

    def patterns(self) -> tuple[str, ...]:
        return (f"data/{self.split}-*.parquet", f"{self.split}-*.parquet")
