"""Orca DPO pairs: GPT-4's answers against those of a 13B Llama 2, with system messages."""

from typing import ClassVar

from harness.pairs_rows import Columns
from harness.seed_set import PublicSet


class OrcaDpoPairs(PublicSet):
    """Intel/orca_dpo_pairs (12,859 rows: system, question, chosen, rejected), the seed set of the paper: prompts of
    OpenOrca (Mukherjee et al. 2023, https://arxiv.org/abs/2306.02707). `path`: a file or folder to use instead of the
    hub; `limit` takes the first pairs only; `weight` is the share of them to take. Raises DataError.
    """

    home: ClassVar[str | None] = "https://huggingface.co/datasets/Intel/orca_dpo_pairs"
    licence: ClassVar[str | None] = "Apache-2.0"
    dataset: ClassVar[str] = "Intel/orca_dpo_pairs"
    columns: ClassVar[Columns | None] = Columns(prompt="question", system="system")

    revision: str = "6ccacf6d3ab601b17cc05a971c94749057f77fa4"

    def patterns(self) -> tuple[str, ...]:
        return ("orca_rlhf.jsonl", "*.jsonl")
