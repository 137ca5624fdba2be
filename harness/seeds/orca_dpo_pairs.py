"""Orca DPO pairs: answers of GPT-4 versus a 13B Llama 2, with system messages."""

from typing import ClassVar

from harness.data.pairs import Columns
from harness.protocols import Origin
from harness.seeds._base import PublicSet


class OrcaDpoPairs(PublicSet):
    """Intel/orca_dpo_pairs (12,859 rows: system, question, chosen, rejected), the seed set of the paper: prompts of
    OpenOrca (Mukherjee et al. 2023, https://arxiv.org/abs/2306.02707). `path`: a file or folder to use instead of the
    hub. `limit`: use only the first pairs. `weight`: the share of them to use. Raises DataError.
    """

    published: ClassVar[Origin] = Origin(
        "Apache-2.0", "https://huggingface.co/datasets/Intel/orca_dpo_pairs", (12_859, 967, 1066)
    )
    """The mean lengths are those of a sample of 284 rows."""
    dataset: ClassVar[str] = "Intel/orca_dpo_pairs"
    columns: ClassVar[Columns | None] = Columns(prompt="question", system="system")

    revision: str = "6ccacf6d3ab601b17cc05a971c94749057f77fa4"

    def patterns(self) -> tuple[str, ...]:
        return ("orca_rlhf.jsonl", "*.jsonl")
