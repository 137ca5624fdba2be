"""What artifacts and rows say of the harness that made them."""

import subprocess
from pathlib import Path

import pytest

import harness
from harness.engine.provenance import commit_of, made_by, packages_out_of_range

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


def test_versions_that_the_package_does_not_admit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metadata is the first of that name on the path; the tools of development have no say."""
    folder = tmp_path / "preference_harness-0.1.0.dist-info"
    folder.mkdir()
    wanted = ["numpy<1", "torch>=2", "not-installed>=3", "scipy<1; extra == 'dev'", "pyyaml<1; python_version < '3'"]
    wanted += [f"{name}; extra == '{extra}'" for name in ("rich<1", "not-there>=1") for extra in ("judge", "train")]
    lines = ["Metadata-Version: 2.4", "Name: preference-harness", "Version: 0.1.0"]
    (folder / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {line}" for line in wanted)]) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    line, of_an_extra = packages_out_of_range()
    assert of_an_extra.startswith("rich ")
    assert line.startswith("numpy ")
    assert line.endswith("the harness is tested with <1: figures may be wrong; pip install 'numpy<1'")
