"""The planned recipe, and the command line."""

from pathlib import Path

import pytest

from harness.cli.app import app
from harness.cli.endings import as_exit_code
from tests.pipeline.detect.planned import RECIPE, Command


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    path = tmp_path_factory.mktemp("planned") / "planned.yaml"
    path.write_text(RECIPE.format(model=tiny_model))
    return path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `harness plan`; returns its exit code, and what it prints."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    def run(*arguments: str | Path) -> tuple[int, str]:
        try:
            code = app(["plan", *map(str, arguments)], standalone_mode=False) or 0
        except BaseException as error:
            code = as_exit_code(error)
        shown = capsys.readouterr()
        assert not code or not shown.out
        return code, shown.out + shown.err

    return run
