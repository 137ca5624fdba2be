"""Journals: what was appended is there, whole batches or nothing, whoever writes beside and wherever a kill falls."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.journal import Journal, content_key
from harness.errors import StoreError
from harness.types import Completion, JudgeReply


def journal(path: Path) -> Journal[Completion]:
    return Journal(path, Completion)


def row(key: str, text: str = "x") -> tuple[str, Completion]:
    return key, Completion(text=text, finish_reason="stop", tokens=1)


def test_what_is_appended_is_found_by_this_journal_and_by_the_next(tmp_path: Path) -> None:
    first = journal(tmp_path / "deep" / "j.jsonl")
    assert dict(first.rows()) == {}
    first.append([row("a"), row("b")])
    first.append([])
    first.append([row("c")])
    assert dict(first.rows()) == dict(journal(first.path).rows()) == dict([row("a"), row("b"), row("c")])


def test_a_key_keeps_its_first_record_and_is_written_once(tmp_path: Path) -> None:
    one, other = journal(tmp_path / "j.jsonl"), journal(tmp_path / "j.jsonl")
    one.append([row("a", "first")])
    other.append([row("a", "second"), row("b"), row("b", "again")])
    assert [json.loads(line)["key"] for line in one.path.read_text().splitlines()] == ["a", "b"]
    assert {k: r.text for k, r in one.rows().items()} == {"a": "first", "b": "x"}


def test_a_single_record_is_a_plain_line_and_older_journals_are_read(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text('{"key": "a", "reply": {"text": "old"}}\n')
    replies = Journal(path, JudgeReply, column="reply")
    assert replies.rows()["a"] == JudgeReply(text="old")
    replies.append([("b", JudgeReply(text="new"))])
    assert json.loads(path.read_text().splitlines()[1]) == {
        "key": "b",
        "reply": JudgeReply(text="new").model_dump(mode="json"),
    }


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.floats(0, 1), st.integers(1, 3))
def test_cut_anywhere_only_whole_batches_are_left_and_the_rest_can_be_redone(
    sizes: list[int], cut: float, more: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.jsonl"
        batches = [[row(f"{b}-{i}", "é\n\u2028") for i in range(size)] for b, size in enumerate(sizes)]
        written = journal(path)
        ends = [0]
        for batch in batches:
            written.append(batch)
            ends.append(path.stat().st_size)
        whole = path.read_bytes()
        at = round(cut * len(whole))
        path.write_bytes(whole[:at])
        kept = sum(end <= at for end in ends) - 1
        after = journal(path)
        assert dict(after.rows()) == dict(r for batch in batches[:kept] for r in batch)
        for batch in batches[kept:]:
            after.append(batch)
        assert path.read_bytes() == whole
        after.append([row(f"new-{i}") for i in range(more)])
        assert dict(journal(path).rows()) == dict(after.rows())


def test_a_broken_line_inside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal(path).append([row("a"), row("b")])
    path.write_text(path.read_text() + "nonsense\n")
    with pytest.raises(StoreError, match=r"j\.jsonl, line 3: not a journal row; delete the line"):
        journal(path).rows()


@pytest.mark.parametrize("deleted", [0, 1, 2])
def test_a_deleted_line_is_only_that_record(deleted: int, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    written = journal(path)
    written.append([row("a"), row("b"), row("c")])
    written.append([row("d")])
    lines = path.read_text().splitlines(keepends=True)
    del lines[deleted]
    path.write_text("".join(lines))
    assert set(journal(path).rows()) == {"a", "b", "c", "d"} - {"abc"[deleted]}


def test_text_of_any_kind_survives(tmp_path: Path) -> None:
    text = 'a\u2028b\x85c\r\nd"\\ \ud83d\ude00é'.encode("utf-16", "surrogatepass").decode("utf-16")
    replies = Journal(tmp_path / "j.jsonl", JudgeReply)
    replies.append([("k", JudgeReply(text=text, logprobs={text: -1.5}))])
    assert Journal(tmp_path / "j.jsonl", JudgeReply).rows()["k"] == JudgeReply(text=text, logprobs={text: -1.5})


def test_appends_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    script = (
        "import sys; from pathlib import Path\n"
        "from harness.engine.journal import Journal; from harness.types import JudgeReply\n"
        "j = Journal(Path(sys.argv[1]), JudgeReply)\n"
        "for i in range(40): j.append([(k, JudgeReply(text='x' * 3000)) for k in (f'{sys.argv[2]}-{i}', f'all-{i}')])\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", script, str(path), str(n)]) for n in range(3)]
    assert [c.wait(60) for c in children] == [0, 0, 0]
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    assert sorted(keys) == sorted(f"{n}-{i}" for n in (0, 1, 2, "all") for i in range(40))
    assert Journal(path, JudgeReply).rows().keys() == set(keys)


def test_a_key_is_the_hash_of_the_content_whatever_its_order() -> None:
    assert content_key({"a": 1, "b": [2]}) == content_key({"b": [2], "a": 1})
    assert content_key([1, 2]) != content_key([2, 1])
