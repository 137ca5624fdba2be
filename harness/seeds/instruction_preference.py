"""Instructions with a polite and an impolite answer: a preference that is easy to learn."""

import re
from pathlib import Path
from typing import ClassVar

from pydantic import field_validator

from harness.data.pairs import Columns
from harness.errors import DataError
from harness.files import cache_root
from harness.protocols import Origin
from harness.seeds._base import PublicSet

REPOSITORY = "rasbt/LLMs-from-scratch"
FILE = "ch07/04_preference-tuning-with-dpo/instruction-data-with-preference.json"


class InstructionPreference(PublicSet):
    """The preference data of Raschka's "Build a Large Language Model (From Scratch)" (1,100 rows: instruction, input,
    output, chosen, rejected), from its GitHub repository at the commit `revision`. The two answers differ in tone; rows
    with equal answers are left out and counted. `path`: a file or folder to use instead. `limit`: use only the first
    pairs. `weight`: the share of them to use. Raises DataError.
    """

    published: ClassVar[Origin] = Origin(
        "Apache-2.0", f"https://github.com/{REPOSITORY}/tree/main/{FILE.rpartition('/')[0]}"
    )
    columns: ClassVar[Columns | None] = Columns(instruction="instruction", input="input")

    revision: str = "2b7bd46a93311c1a77446ab1a83ff013ba3f6a70"

    @field_validator("revision")
    @classmethod
    def _is_a_commit(cls, value: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{40}", value):
            raise ValueError("expected a commit of the repository, 40 hex digits: the data of a branch can change")
        return value

    def patterns(self) -> tuple[str, ...]:
        return (FILE, FILE.rpartition("/")[2], "*.json", "*.jsonl")

    def _commit(self) -> str | None:
        return self.revision

    def _folder(self) -> Path:
        import pooch

        url = f"https://raw.githubusercontent.com/{REPOSITORY}/{self.revision}/{FILE}"
        folder = cache_root() / "data" / "instruction_preference" / self.revision
        pooch.get_logger().setLevel("WARNING")
        try:
            # No hash needed: the URL contains the commit, which fixes the content.
            pooch.retrieve(url, known_hash=None, fname=FILE.rpartition("/")[2], path=folder)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            how = "check the network, or give a local copy of the file as `path`"
            raise DataError(f"{url} can't be downloaded ({type(error).__name__}); {how}") from None
        return folder
