"""Seed sets on the hub: a fake one on this machine, and without one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.components import build
from harness.errors import DataError
from harness.protocols import Origin
from harness.seeds.hub import Hub
from tests.fake_hub import COMMIT, fake_hub

ROWS = [{"q": f"question {i}", "a": f"good {i}", "b": f"bad {i}"} for i in range(6)]
COLUMNS = {"prompt": "q", "chosen": "a", "rejected": "b"}
CARD = """---
configs:
- config_name: small
  data_files:
  - split: first
    path: part/first.jsonl
  - split: rest
    path: part/rest.jsonl
- config_name: list
  data_files: all.json
---
"""


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


FILES = {
    "README.md": CARD.encode(),
    "part/first.jsonl": jsonl(ROWS[:2]),
    "part/rest.jsonl": jsonl([*ROWS[2:], {**ROWS[0], "a": ""}]),
    "all.json": json.dumps(ROWS).encode(),
}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local copy of the repository."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    for name, content in FILES.items():
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "copy"


def hub(**fields: Any) -> Hub:
    component = build("seed", {"name": "hub", "dataset": "someone/pairs", **fields})
    assert isinstance(component, Hub)
    return component


def test_configs_and_splits_as_datasets_reads_them(copy: Path) -> None:
    import datasets

    for config, split in (("small", "first"), ("small", "rest"), ("list", "train")):
        seed = hub(path=str(copy), config=config, split=split, columns=COLUMNS)
        theirs = list(datasets.load_dataset(str(copy), config, split=split, streaming=True))
        kept = [(row["q"], row["a"], row["b"]) for row in theirs if row["a"]]
        assert [(p.messages[0].content, p.chosen, p.rejected) for p in seed.pairs()] == kept
        assert seed.remarks()["left_out"]["unreadable"] == len(theirs) - len(kept)
        assert {p.source for p in seed.pairs()} == {"pairs"}
    assert len(hub(path=str(copy), config="list", columns=COLUMNS, limit=3).pairs()) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"config": "smal"}, "smal"),
        ({"config": "small", "split": "firts"}, "split 'firts', can't be read"),
        ({"config": "list", "columns": {**COLUMNS, "prompt": "p"}}, "columns.prompt: there is no column 'p'"),
        ({"config": "list"}, "columns not recognised: .*; got a, b, q"),
    ],
)
def test_what_is_not_there(copy: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        hub(path=str(copy), **fields).pairs()
    assert "\n" not in str(caught.value)


def test_identity_of_a_copy_is_its_content(copy: Path) -> None:
    before = hub(path=str(copy)).identity()
    assert hub(path=str(copy), licence="MIT").identity() == before
    assert str(copy) not in json.dumps(before)
    (copy / "all.json").write_text("[]")
    assert hub(path=str(copy)).identity()["sha256"] != before["sha256"]
    with pytest.raises(DataError, match="no such folder; expected a copy of the hub dataset someone/pairs"):
        hub(path=str(copy / "nowhere")).check()


def test_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    seed = hub(licence="MIT")
    seed.check()
    assert not seed.quick
    assert seed.origin == Origin("MIT", home="https://huggingface.co/datasets/someone/pairs")
    assert seed.identity()["revision"] == "main"
    with pytest.raises(DataError, match=r"hub dataset 'someone/pairs' can't be read .*give a copy as `path`") as caught:
        seed.pairs()
    assert "\n" not in str(caught.value)
    refs = tmp_path / "datasets--someone--pairs" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    assert seed.identity()["revision"] == COMMIT


@pytest.mark.parametrize("dataset", ["", "a/b/c", "../pairs", "/pairs", "a b"])
def test_ids(dataset: str) -> None:
    with pytest.raises(ValidationError, match="expected the id of a hub dataset"):
        hub(dataset=dataset)


def online(script: str, url: str, home: Path) -> list[Any]:
    """What a new process prints, as JSON lines; the hub is at `url`, and its cache is in `home`."""
    env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
    head = "import json\nfrom harness.components import build\n"
    done = subprocess.run(
        [sys.executable, "-c", head + script], env=env, capture_output=True, text=True, check=False, timeout=100
    )
    assert not done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_branch_is_its_commit_before_and_after_the_download(tmp_path: Path) -> None:
    script = f"""
seed = build("seed", {{"name": "hub", "dataset": "someone/pairs", "config": "list", "columns": {COLUMNS!r}}})
print(json.dumps(seed.identity()))
print(json.dumps([p.chosen for p in seed.pairs()]))
print(json.dumps(seed.identity()))
"""
    with fake_hub("someone/pairs", FILES) as server:
        before, chosen, after = online(script, server.url, tmp_path)
        assert before == after
        assert before["revision"] == COMMIT
        assert chosen == [row["a"] for row in ROWS]
    # What was fetched is read again without the hub, as the same commit.
    assert online(script, server.url, tmp_path) == [before, chosen, after]


def test_a_public_set_fetches_what_it_reads(tmp_path: Path) -> None:
    row = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: What?"}
    files = {
        f"{part}/{split}.jsonl": jsonl([row])
        for part in ("helpful-base", "harmless-base")
        for split in ("train", "test")
    }
    script = f"""
seed = build("seed", {{"name": "hh_rlhf", "data_dir": "helpful-base", "revision": "{COMMIT}"}})
print(json.dumps([[p.messages[0].content, p.chosen, p.rejected, p.source] for p in seed.pairs()]))
"""
    with fake_hub("Anthropic/hh-rlhf", files) as server:
        assert online(script, server.url, tmp_path) == [[["Hi", "Hello!", "What?", "hh_rlhf"]]]
        fetched = {line.rpartition("/resolve/")[2].partition("/")[2] for line in server.asked if "/resolve/" in line}
    assert fetched == {"helpful-base/train.jsonl"}
