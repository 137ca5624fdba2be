"""UltraFeedback, binarized: the best of four models' answers against another of them, as GPT-4 scored them."""

from typing import ClassVar, Literal

from harness.pairs_rows import Columns
from harness.seed_set import PublicSet


class Ultrafeedback(PublicSet):
    """HuggingFaceH4/ultrafeedback_binarized (61,135 rows in `train_prefs`, 2,000 in `test_prefs`: prompt; chosen and
    rejected as messages), which Zephyr was trained on: UltraFeedback (Cui et al. 2023,
    https://arxiv.org/abs/2310.01377). `path`: a file or folder to use instead of the hub; `limit` takes the first pairs
    only; `weight` is the share of them to take. Raises DataError.
    """

    home: ClassVar[str | None] = "https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized"
    licence: ClassVar[str | None] = "MIT"
    dataset: ClassVar[str] = "HuggingFaceH4/ultrafeedback_binarized"
    columns: ClassVar[Columns | None] = Columns(prompt="prompt")

    revision: str = "3949bf5f8c17c394422ccfab0c31ea9c20bdeb85"
    split: Literal["train_prefs", "test_prefs"] = "train_prefs"

    def patterns(self) -> tuple[str, ...]:
        return (f"data/{self.split}-*.parquet", f"{self.split}-*.parquet")
