"""The public sets, from local copies in the form in which each is published."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.components import build
from harness.errors import DataError
from harness.seeds._base import PublicSet
from harness.types import PreferencePair

SETS = ("orca_dpo_pairs", "ultrafeedback", "hh_rlhf", "instruction_preference")


def public(name: str, **fields: Any) -> PublicSet:
    component = build("seed", {"name": name, **fields})
    assert isinstance(component, PublicSet)
    return component


def shown(pair: PreferencePair) -> tuple[list[tuple[str, str]], str, str]:
    return [(m.role, m.content) for m in pair.messages], pair.chosen, pair.rejected


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", SETS)
def test_home_licence_and_commit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    seed = public(name)
    seed.check()
    assert seed.origin.licence in {"Apache-2.0", "MIT"}
    assert seed.origin.home
    assert seed.origin.home.startswith("https://")
    assert not seed.quick
    assert len(seed.identity()["revision"]) == 40
    assert public(name, revision="0" * 40).identity() == {**seed.identity(), "revision": "0" * 40}


@pytest.mark.parametrize("name", SETS)
def test_a_copy_that_is_not_there(name: str, tmp_path: Path) -> None:
    jsonl(tmp_path / "pairs.jsonl", [])
    with pytest.raises(DataError, match=r"pears\.jsonl: no such file; .*did you mean 'pairs\.jsonl'\?") as caught:
        public(name, path=str(tmp_path / "pears.jsonl")).check()
    assert "\n" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: has no .*; it has nothing"):
        public(name, path=str(tmp_path / "empty")).check()


def test_orca(shared_data: Path) -> None:
    path = shared_data / "seeds" / "orca_dpo_pairs.jsonl"
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    seed = public("orca_dpo_pairs", path=str(path))
    seed.check()
    expected = [
        (
            ([("system", r["system"])] if r["system"] else []) + [("user", r["question"])],
            r["chosen"],
            r["rejected"],
        )
        for r in rows
    ]
    assert [shown(p) for p in seed.pairs()] == expected
    assert {p.source for p in seed.pairs()} == {"orca_dpo_pairs"}
    assert set(seed.remarks()["left_out"].values()) == {0}


def test_instruction_preference(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "seeds" / "instruction_preference.jsonl"
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    seed = public("instruction_preference", path=str(path))
    assert len(seed.pairs()) + sum(seed.remarks()["left_out"].values()) == len(rows) == 1100
    assert seed.remarks()["left_out"]["same_text"] == sum(r["chosen"] == r["rejected"] for r in rows)
    as_published = tmp_path / "instruction-data-with-preference.json"  # a JSON list, which has `output` too
    as_published.write_text(json.dumps([{**r, "output": r["chosen"]} for r in rows], indent=4))
    for copy in (as_published, tmp_path):
        assert public("instruction_preference", path=str(copy)).pairs() == seed.pairs()


def test_instruction_preference_is_pinned_to_a_commit() -> None:
    with pytest.raises(ValidationError, match="expected a commit of the repository, 40 hex digits"):
        public("instruction_preference", revision="main")


def test_another_file_is_told_by_its_columns(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"prompt": "Hi", "chosen": "a", "rejected": "b"}])
    with pytest.raises(DataError, match=r"x\.jsonl:1: columns\.prompt: there is no column 'question'; available: chos"):
        public("orca_dpo_pairs", path=str(path)).check()


def test_ultrafeedback_as_the_hub_has_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import pyarrow
    import pyarrow.parquet

    def talk(answer: str, i: int) -> list[dict[str, str]]:
        return [{"content": f"question {i}", "role": "user"}, {"content": answer, "role": "assistant"}]

    rows = [
        {
            "prompt": f"question {i}",
            "prompt_id": "x",
            "chosen": talk(f"good {i}", i),
            "rejected": talk("" if i == 3 else f"bad {i}", i),
            "messages": talk(f"good {i}", i),
            "score_chosen": 8.0,
            "score_rejected": 4.5,
        }
        for i in range(6)
    ]
    (tmp_path / "data").mkdir()
    for name, part in (("train_prefs-00000-of-00002", rows[:2]), ("train_prefs-00001-of-00002", rows[2:])):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(part), tmp_path / "data" / f"{name}.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows[:1]), tmp_path / "data" / "test_prefs-0.parquet")
    with caplog.at_level(logging.WARNING):
        seed = public("ultrafeedback", path=str(tmp_path))
        pairs = seed.pairs()
    expected = [([("user", f"question {i}")], f"good {i}", f"bad {i}") for i in range(6) if i != 3]
    assert [shown(p) for p in pairs] == expected
    assert seed.remarks()["left_out"] == {"same_text": 0, "repeated_prompts": 0, "unreadable": 1}
    assert "row 2: rejected.1.content: expected text, got an empty string" in caplog.text
    assert len(public("ultrafeedback", path=str(tmp_path), split="test_prefs").pairs()) == 1
    one = public("ultrafeedback", path=str(tmp_path / "data" / "train_prefs-00000-of-00002.parquet"))
    assert one.pairs() == pairs[:2]


def test_hh_rlhf_as_the_hub_has_it(tmp_path: Path) -> None:
    def row(start: str, chosen: str, rejected: str) -> dict[str, str]:
        return {"chosen": f"{start}\n\nAssistant: {chosen}", "rejected": f"{start}\n\nAssistant: {rejected}"}

    several = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: What is\n\n2 + 2?"
    helpful = [
        row("\n\nHuman: Hi", "Hello!", "What?"),
        row(several, "4", "5"),
        row("\n\nHuman: Bye", "", "What?"),
        {
            "chosen": "\n\nHuman: a\n\nAssistant: b",
            "rejected": "\n\nHuman: a\n\nAssistant: c\n\nHuman: d\n\nAssistant: e",
        },
    ]
    jsonl(tmp_path / "helpful-base" / "train.jsonl.gz", helpful)
    jsonl(tmp_path / "harmless-base" / "train.jsonl.gz", [row("\n\nHuman: Ho", "Hello!", "What?")])
    jsonl(tmp_path / "harmless-base" / "test.jsonl.gz", [row("\n\nHuman: Hu", "Hello!", "What?")])
    jsonl(tmp_path / "red-team-attempts" / "red_team_attempts.jsonl.gz", [{"transcript": "no pair"}])
    seed = public("hh_rlhf", path=str(tmp_path), data_dir="helpful-base")
    assert [shown(p) for p in seed.pairs()] == [
        ([("user", "Hi")], "Hello!", "What?"),
        ([("user", "Hi"), ("assistant", "Hello!"), ("user", "What is\n\n2 + 2?")], "4", "5"),
    ]
    assert seed.remarks()["left_out"]["unreadable"] == 2
    everything = public("hh_rlhf", path=str(tmp_path)).pairs()
    assert [p.messages[0].content for p in everything] == ["Ho", "Hi", "Hi"]
    assert len(public("hh_rlhf", path=str(tmp_path), split="test").pairs()) == 1
    file = tmp_path / "helpful-base" / "train.jsonl.gz"
    assert public("hh_rlhf", path=str(file)).pairs() == seed.pairs()
    with pytest.raises(ValidationError, match="helpful-base"):
        public("hh_rlhf", data_dir="helpful")


def test_identity_of_a_copy_is_its_content(tmp_path: Path) -> None:
    row = {"system": "", "question": "Hi", "chosen": "a", "rejected": "b"}
    path = jsonl(tmp_path / "one.jsonl", [row])
    identity = public("orca_dpo_pairs", path=str(path)).identity()
    assert "revision" not in identity
    assert str(tmp_path) not in json.dumps(identity)
    folder = jsonl(tmp_path / "copy" / "orca_rlhf.jsonl", [row]).parent
    assert public("orca_dpo_pairs", path=str(folder)).identity() == identity
    jsonl(path, [row, {**row, "question": "Ho"}])
    assert public("orca_dpo_pairs", path=str(path)).identity() != identity


def test_a_large_copy_is_checked_by_its_first_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"system": "", "question": "Hi", "chosen": "a", "rejected": "b"}
    path = jsonl(tmp_path / "x.jsonl", [row])
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(DataError, match=r"x\.jsonl:2: not JSON"):
        public("orca_dpo_pairs", path=str(path)).check()
    monkeypatch.setattr("harness.seeds._base.QUICK", 10)
    seed = public("orca_dpo_pairs", path=str(path))
    seed.check()
    assert not seed.quick
    with pytest.raises(DataError, match=r"x\.jsonl:2: not JSON"):
        seed.pairs()
