"""Journals: what was appended is there, whole batches or nothing, whoever writes beside and wherever a kill falls."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine import journal as journals
from harness.engine.journal import Journal, content_key
from harness.engine.journal_line import decode, journal_damage
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
    second = json.loads(path.read_text().splitlines()[1])
    assert len(second.pop("sum")) == 8
    assert second == {"key": "b", "reply": JudgeReply(text="new").model_dump(mode="json")}


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
        assert path.read_bytes().startswith(whole[:at])  # nothing is ever taken away
        assert dict(after.rows()) == dict(journal(path).rows()) == dict(r for batch in batches for r in batch)
        after.append([row(f"new-{i}") for i in range(more)])
        assert dict(journal(path).rows()) == dict(after.rows())


def test_a_broken_line_is_named_and_the_others_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "j.jsonl"
    journal(path).append([row("a"), row("b")])
    path.write_text(path.read_text() + "nonsense\n")
    journal(path).append([row("c")])
    assert set(journal(path).rows()) == {"a", "b", "c"}
    (message,) = caplog.messages  # once a process
    assert f"{path}, line 3: cut short or changed; left out" in message


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A record by itself, a batch of three, a record by itself."""
    written = journal(tmp_path / "sample.jsonl")
    for batch in (["a"], ["b", "c", "d"], ["e"]):
        written.append([row(key, f"text é of {key}") for key in batch])
    return written.path


WHOLE = dict([row(key, f"text é of {key}") for key in "abcde"])


@pytest.mark.slow
def test_cut_at_every_byte_what_is_whole_counts_and_the_rest_is_redone(sample: Path, tmp_path: Path) -> None:
    whole = sample.read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    path = tmp_path / "cut.jsonl"
    for at in range(len(whole) + 1):
        path.write_bytes(whole[:at])
        lines = sum(end <= at for end in ends)  # also one without its line break
        assert "".join(journal(path).rows()) == {0: "", 1: "a", 2: "a", 3: "a", 4: "abcd", 5: "abcde"}[lines]
        for batch in (["a"], ["b", "c", "d"], ["e"], ["f"]):
            journal(path).append([row(key, f"text é of {key}") for key in batch])
        assert path.read_bytes().startswith(whole[:at])
        assert dict(journal(path).rows()) == WHOLE | dict([row("f", "text é of f")])
        assert len(list(journal_damage(path))) == (at > 0 and at - 1 not in ends and at not in ends)


@pytest.mark.slow
def test_every_changed_byte_is_noticed_and_costs_one_record(sample: Path, tmp_path: Path) -> None:
    whole = sample.read_bytes()
    path = tmp_path / "changed.jsonl"
    for at in range(len(whole)):
        for bit in (0x01, 0x20):
            changed = bytearray(whole)
            changed[at] ^= bit
            path.write_bytes(changed)
            rows = dict(journal(path).rows())
            assert rows.items() <= WHOLE.items()
            # A line break that is changed joins two lines; the last one ends the file.
            assert len(rows) >= (4 if whole[at] != ord("\n") else 3)
            assert at == len(whole) - 1 or list(journal_damage(path))


@pytest.mark.parametrize("kept", [0, 10, 150])
def test_shortened_while_open_nothing_is_lost(kept: int, sample: Path) -> None:
    opened = journal(sample)
    opened.rows()
    with sample.open("r+b") as file:
        file.truncate(kept)
    opened.append([row("new")])
    assert b"\0" not in sample.read_bytes()
    assert dict(journal(sample).rows()) == dict(opened.rows()) == WHOLE | dict([row("new")])


def test_edited_or_replaced_while_open(sample: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened = journal(sample)
    view = opened.rows()
    lines = sample.read_bytes().splitlines(keepends=True)
    sample.write_bytes(b"".join(lines[1:]) + b"{}\n")
    journal(sample).append([row("more")])
    assert opened.rows()["more"] == view["more"]
    assert f"{sample}: was changed while in use" in caplog.messages[-1]
    sample.unlink()
    opened.append([row("last")])
    assert dict(journal(sample).rows()) == WHOLE | dict([row("more"), row("last")])


def test_a_last_line_without_its_line_break_counts(sample: Path) -> None:
    sample.write_bytes(sample.read_bytes().rstrip(b"\n"))
    opened = journal(sample)
    assert dict(opened.rows()) == WHOLE
    opened.append([row("f")])
    assert [decode(line)["key"] for line in sample.read_bytes().splitlines()] == list("abcdef")  # type: ignore[index]


@pytest.mark.parametrize("content", [b"\r\n", b" \n", b"\n\n"])
def test_line_breaks_and_spaces_of_editors_do_no_harm(content: bytes, sample: Path) -> None:
    sample.write_bytes(sample.read_bytes().replace(b"\n", content).replace(b'","', b'", "'))
    assert dict(journal(sample).rows()) == WHOLE
    assert not list(journal_damage(sample))


@pytest.mark.parametrize(
    "record", ['{"text": 3}', '{"text": "x", "finish_reason": "stop", "tokens": 1e999}', "[]", "null", '{"text": NaN}']
)
def test_a_record_that_is_none_is_left_out_and_named(
    record: str, sample: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample.write_text(f'{{"key": "odd", "record": {record}}}\n' + sample.read_text())
    assert dict(journal(sample).rows()) == WHOLE
    assert f"{sample}, line 1: " in caplog.text


def test_batches_of_two_writers_do_not_mix(sample: Path, tmp_path: Path) -> None:
    """As two machines without a common lock may write them. One that was torn doesn't count, whatever follows."""
    both = tmp_path / "both.jsonl"
    lines = sample.read_bytes().splitlines(keepends=True)
    other = journal(tmp_path / "other.jsonl")
    other.append([row(key) for key in "xyz"])
    theirs = other.path.read_bytes().splitlines(keepends=True)
    both.write_bytes(lines[1] + theirs[0] + lines[2] + theirs[1] + theirs[2] + lines[3])
    assert set(journal(both).rows()) == set("bcdxyz")
    both.write_bytes(lines[1] + lines[2])  # killed
    journal(both).append([row("e"), row("f")])
    assert set(journal(both).rows()) == set("ef")
    both.write_bytes(both.read_bytes() + lines[3])  # not killed, but suspended
    assert set(journal(both).rows()) == set("bcdef")


def test_a_torn_batch_that_is_written_anew_is_the_new_one(tmp_path: Path) -> None:
    """Also after another batch; samples of two computations don't mix."""
    path = tmp_path / "j.jsonl"
    for between in ([], [row("x"), row("y")]):
        path.unlink(missing_ok=True)
        journal(path).append([row(key, "first") for key in "abc"])
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:2]))
        journal(path).append(between)
        journal(path).append([row(key, "second") for key in "abc"])
        assert {r.text for key, r in journal(path).rows().items() if key in "abc"} == {"second"}
        assert not list(journal_damage(path))


def test_records_that_are_no_batch_count_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal(path).append([row(key) for key in "abc"], together=False)
    path.write_bytes(path.read_bytes()[:-4])
    assert set(journal(path).rows()) == {"a", "b"}


def test_batches_from_before_checksums(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    old = [json.dumps({"key": k, "record": row(k)[1].model_dump(), "more": True}) for k in "abc"]
    last = json.dumps({"key": "d", "record": row("d")[1].model_dump()})
    path.write_text("\n".join([*old, last, *old[:2]]) + "\n")
    assert set(journal(path).rows()) == set("abcd")
    path.write_text("\n".join(old) + "\n")
    journal(path).append([row("e")])
    assert set(journal(path).rows()) == {"e"}


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "j.jsonl")
    opened = journal(tmp_path / "j.jsonl")
    with pytest.raises(StoreError, match=r"j\.jsonl: not a regular file"):
        opened.rows()
    with pytest.raises(StoreError, match=r"j\.jsonl: not a regular file"):
        opened.append([row("a")])


def test_a_new_journal_is_in_its_folder_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    own = os.fsync

    def sync(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        own(handle)

    monkeypatch.setattr(os, "fsync", sync)
    written = journal(tmp_path / "new" / "j.jsonl")
    written.append([row("a")])
    assert synced == [str(tmp_path), str(written.path), str(written.path.parent)]
    written.append([row("b")])
    assert synced[3:] == [str(written.path)]


def test_a_warning_lists_a_few_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "j.jsonl").write_text("x\n" * 100)
    assert not journal(tmp_path / "j.jsonl").rows()
    (message,) = caplog.messages
    assert "19, 20, …: cut short or changed" in message
    assert len(message) < 300 + len(str(tmp_path))
    assert journals.NAMED == 20


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
