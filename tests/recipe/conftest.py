"""The folder of a recipe, without network or keys."""

from pathlib import Path

import pytest

from tests.a_recipe import recipe_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe's folder with its seed file; tests run in the folder above it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return recipe_folder(tmp_path)
