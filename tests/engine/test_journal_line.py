"""Lines of a journal that were changed are left out and named; the same records are the same bytes."""

from pathlib import Path

import pytest

from harness.engine.journal import Journal
from harness.engine.journal_line import journal_damage
from harness.types import JudgeReply

ROWS = [(key, JudgeReply(text=f"the reply {key}")) for key in "abc"]


def written(path: Path) -> Path:
    Journal(path, JudgeReply).append(ROWS[:2])
    Journal(path, JudgeReply).append(ROWS[2:])
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("the reply a", "the reply A"),
        ('"key":"a"', '"key":"z"'),
        ('"more":true', '"more":null'),
        (',"sum":', ',"sun":'),
        (',"sum":', ',"sum":"0",'),
        ('{"batch":', '{"batsh":'),
    ],
)
def test_a_changed_line_is_left_out_and_named(old: str, new: str, tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl")
    lines = path.read_text().split("\n")
    assert old in lines[0]
    path.write_text("\n".join([lines[0].replace(old, new, 1), *lines[1:]]))
    assert dict(Journal(path, JudgeReply).rows()) == dict(ROWS[1:])
    ((text, may_be_set_aside),) = journal_damage(path)
    assert text.startswith("line 1 ")
    assert may_be_set_aside


def test_a_line_without_its_checksum_is_no_line_of_before_checksums(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl")
    without = [line.partition(',"sum"')[0] for line in path.read_text().splitlines()[:2]]
    path.write_text("".join(f"{line}}}\n" for line in without))
    assert dict(Journal(path, JudgeReply).rows()) == {}
    assert [text for text, _ in journal_damage(path)] == [
        f"line {number} is not a journal row; it is left out" for number in (1, 2)
    ]


def test_a_repeated_run_writes_the_same_bytes(tmp_path: Path) -> None:
    assert written(tmp_path / "one.jsonl").read_bytes() == written(tmp_path / "two.jsonl").read_bytes()
