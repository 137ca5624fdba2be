"""What is mutated, the tests that concern it, and the mutants that change nothing that anybody could see."""

from pathlib import Path
from typing import NamedTuple


class Area(NamedTuple):
    """A part of the core. `sources`, `suites`: glob patterns of its modules and of the tests that concern them, from
    the tree's root; modules may move within them."""

    name: str
    sources: tuple[str, ...]
    suites: tuple[str, ...]

    def modules(self, root: Path) -> list[Path]:
        """Paths under the root, in order."""
        paths = {path.relative_to(root) for pattern in self.sources for path in root.glob(pattern)}
        return sorted(path for path in paths if path.name != "__init__.py")

    def tests(self, root: Path, module: Path) -> list[str]:
        """The area's test files, those named like the module first."""
        paths = {path.relative_to(root) for pattern in self.suites for path in root.glob(pattern)}
        alike = f"test_{module.stem.strip('_')}"
        return [str(path) for path in sorted(paths, key=lambda path: (not path.stem.startswith(alike), str(path)))]


DECODING_TESTS = (
    "tests/models/test_batching.py",
    "tests/models/test_decod*.py",
    "tests/models/decod*/test_*.py",
    "tests/models/families/test_decoding.py",
    "tests/generators/test_hf.py",
)
AREAS = (
    Area("losses", ("harness/losses/*.py",), ("tests/losses/test_*.py",)),
    Area(
        "batch",
        ("harness/training/ranked/batch.py",),
        ("tests/training/test_batch.py", "tests/training/test_order.py", "tests/logprobs/test_*.py"),
    ),
    Area(
        "head",
        ("harness/logprobs/*.py",),
        ("tests/logprobs/test_*.py", "tests/training/test_batch.py", "tests/models/families/test_logprobs.py"),
    ),
    Area(
        "decoding",
        ("harness/models/batching.py", "harness/models/decod*.py", "harness/models/decode/*.py"),
        DECODING_TESTS,
    ),
    Area("sampling", ("harness/models/**/sampling.py",), ("tests/models/**/test_sampling.py", *DECODING_TESTS)),
    Area(
        "judging",
        ("harness/judging/*.py",),
        ("tests/judging/test_*.py", "tests/judges/test_*.py", "tests/servers/test_spending.py"),
    ),
    Area("paired", ("harness/stats/paired.py",), ("tests/stats/test_*.py", "tests/boards/test_comparisons.py")),
)

PERFORMANCE: dict[str, str] = {
    "TILE": "tokens per matrix product of the head: the same sums",
    "WIDEST_MASK": "which of two exact layouts is used",
    "DENSE_ATTENTION": "which of two exact layouts is used",
    "HALF_DENSE_ATTENTION": "which of two exact layouts is used",
    "SHORTLIST": "how many probabilities are sorted first; the rest is sorted where they don't suffice",
    "COMPACT_AT": "when finished rows leave the batch",
    "PADDED": "which prompts are prefilled together",
    "SLACK": "which prompts are prefilled together",
    "SHARE": "how much memory a batch may take",
}
"""Module constants that change time or memory and no result, and why."""
EQUIVALENT: dict[str, str] = {
    "ab6124885006baee": "mdpo_linear: a zero after the last of the cumulative sums, which no index reaches",
}
"""Mutants by key that no test could tell from the original, and why; they aren't drawn."""
