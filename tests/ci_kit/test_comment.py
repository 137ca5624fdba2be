"""The one comment: found among many, edited, never a stranger's, and no reason to fail."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ci_kit.repository import GitHub, write_event
from tests.ci_kit.runner import ACTION


@pytest.fixture
def comment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("gate_comment", ACTION / "comment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "comment.md").write_text("## Gate: worse\nby 3, says @everyone")
    event = write_event(tmp_path / "event.json", 7)
    for name, value in {
        "GATE_TOKEN": "the-token",
        "GATE_NAME": "small",
        "GATE_COMMENT": str(tmp_path / "comment.md"),
        "GATE_COMMENT_AUTHOR": "github-actions[bot]",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_REPOSITORY": "us/model",
    }.items():
        monkeypatch.setenv(name, value)
    return module


def test_one_comment_is_kept_among_many(comment: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with GitHub().running() as github:
        monkeypatch.setenv("GITHUB_API_URL", github.url)
        for number in range(120):
            github.write(f"comment {number}", "github-actions[bot]")
        github.write("<!-- harness gate: small -->\nforged", "stranger")
        comment.main()
        assert github.comments[-1]["body"] == "<!-- harness gate: small -->\n## Gate: worse\nby 3, says @\u200beveryone"
        (tmp_path / "comment.md").write_text("## Gate: not worse")
        comment.main()
        assert github.comments[-1]["body"].endswith("not worse")
        assert github.comments[-2]["body"].endswith("forged")
        monkeypatch.setenv("GATE_NAME", "large")  # another gate of the repository
        comment.main()
        assert len(github.comments) == 123
        assert github.calls == ["GET", "GET", "POST", "GET", "GET", "PATCH", "GET", "GET", "POST"]


def test_a_token_that_only_reads_is_a_warning(comment: Any) -> None:
    with GitHub().running() as github:
        github.refuses = True
        done = subprocess.run(
            [sys.executable, "-I", ACTION / "comment.py"],
            env={**os.environ, "GITHUB_API_URL": github.url},
            capture_output=True,
            text=True,
        )
    assert (done.returncode, github.comments) == (0, [])
    assert done.stdout.startswith("::warning::the comment was not written (HTTP 403); a pull request of a fork")
