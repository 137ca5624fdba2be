"""A place to run the documentation's commands and code in."""

import json
import shutil
from pathlib import Path

import pytest

from harness.files import store_folder
from tests.docs.pages import ROOT, judge_files


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of recipes and boards to run commands in, with the files that the pages speak of."""
    for name in ("recipes", "leaderboards"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    shutil.copytree(ROOT / "leaderboards" / "orca-smollm2", tmp_path / "other-boards" / "orca-smollm2", symlinks=True)
    store_folder(None).mkdir(parents=True)
    (tmp_path / "my-pairs.jsonl").write_text('{"question": "a", "answer_a": "b", "answer_b": "c"}\n')
    (tmp_path / "judge.yaml").write_text(next(block.text for block in judge_files()))
    answers = [{"answer": text, "rank": rank, "model": "m"} for rank, text in ((1, "Paris."), (2, "Rome."))]
    row = {"prompt": "\n\nHuman: The capital of France?\n\nAssistant: ", "answers": answers}
    (tmp_path / "nectar.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path
