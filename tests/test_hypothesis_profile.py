"""The default profile of Hypothesis draws the same examples in every run."""

import importlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def examples() -> list[int | float | str]:
    """What a test of its own draws."""
    drawn: list[int | float | str] = []

    @given(st.integers() | st.floats(allow_nan=False) | st.text())
    @settings(max_examples=300)
    def draws(value: int | float | str) -> None:
        drawn.append(value)

    draws()
    return drawn


@pytest.mark.skipif(not settings.default.derandomize, reason="new examples were asked for")
def test_examples_do_not_depend_on_the_modules_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = examples()
    (tmp_path / "only_here.py").write_text("NUMBERS = (" + "".join(f"{7_000_001 + 13 * k}, " for k in range(500)) + ")")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("only_here")
    assert examples() == before


def test_no_test_asks_for_other_examples() -> None:
    """A test's own `derandomize` or seed would override the profile."""
    root = Path(__file__).parent
    here = {Path(__file__), root / "conftest.py"}
    words = ("derandomize", "hypothesis.seed", "import seed\n")
    assert [p.name for p in root.rglob("*.py") if p not in here and any(w in p.read_text() for w in words)] == []
