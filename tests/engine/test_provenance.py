"""What artifacts and rows say of the harness that made them."""

import subprocess
from pathlib import Path

import pytest

import harness
from harness.engine.provenance import commit_of, made_by

ROOT = Path(harness.__file__).parents[1]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the package is not in a checkout")
def test_the_harness_names_its_commit() -> None:
    """And whether its files differ from it, wherever this is called from."""
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert made_by()["harness"]["commit"] == head.stdout.strip()
    assert made_by()["harness"]["dirty"] in (True, False)
    assert made_by()["harness"]["version"] == harness.__version__


def test_outside_of_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
