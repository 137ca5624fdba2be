"""Odd and hostile files of pairs: each is read right, or refused in one line by every command that takes such files."""

import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from typer.main import get_command

from harness.cli.app import app
from harness.cli.endings import as_exit_code
from harness.errors import DataError
from tests.data.own.forms import HOSTILE, ODD, PLAIN, Read
from tests.data.own.test_own_files import REFUSED, pairs, said_of, written

COMMANDS = {
    "init": ("init", "--data", "{file}", "-o", "recipe.yaml"),
    "label": ("label", "{file}"),
    "import": ("import", "{file}", "-o", "out.jsonl"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_read_right(name: str, tmp_path: Path) -> None:
    content, expected = ODD[name]
    found: Read = [
        ([(m.role, m.content) for m in pair.messages], pair.chosen, pair.rejected)
        for pair in pairs(written(tmp_path, name, content))
    ]
    assert found == expected


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name: str, tmp_path: Path) -> None:
    content, expected = HOSTILE[name]
    message = said_of(written(tmp_path, name, content))
    assert expected in message
    assert len(message) - len(str(tmp_path)) < 500


@cache
def harness_command() -> Any:
    return get_command(app)


def refusal(capsys: pytest.CaptureFixture[str], command: str, file: str) -> str:
    """The one line of a command that refuses a file."""
    logging.disable(logging.WARNING)
    error = CliRunner().invoke(harness_command(), [part.format(file=file) for part in COMMANDS[command]]).exception
    logging.disable(logging.NOTSET)
    assert error is not None
    assert as_exit_code(error) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "should not occur" not in line
    assert line.rstrip("\n").isprintable()
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_them_alike(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, (content, expected) in {**REFUSED, **HOSTILE}.items():
        if command == "import" and name == "all-equal.jsonl":
            continue  # a ranking of one response
        written(tmp_path, name, content)
        assert expected in refusal(capsys, command, name), name
    assert not (tmp_path / "recipe.yaml").exists()
    assert not (tmp_path / "out.jsonl").exists()
    assert not list(tmp_path.glob("*.labels"))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_file_of_ones_own(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    os.mkfifo("pipe.jsonl")
    Path("link.csv").symlink_to(tmp_path / "secret.csv")
    (tmp_path / "secret.csv").write_text("prompt,chosen,rejected\nq,a,b\n")
    Path("loop.csv").symlink_to("loop.csv")
    Path("folder.csv").mkdir()
    assert "it is a FIFO; expected a regular file" in refusal(capsys, command, "pipe.jsonl")
    assert "it leads out of" in refusal(capsys, command, "link.csv")
    assert "loop.csv" in refusal(capsys, command, "loop.csv")
    assert "folder.csv" in refusal(capsys, command, "folder.csv")
    assert "no such file; expected a file of preference pairs" in refusal(capsys, command, "none.csv")
    assert "no such file" in refusal(capsys, command, "\x1b[31mnone.csv")


def test_types_of_parquet(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table([["q"], ["a"], ["b"], ["c"]], names=["prompt", "chosen", "rejected", "chosen"]), file)
    with pytest.raises(DataError, match="two columns are named 'chosen'"):
        pairs(file)
    pq.write_table(pa.table({"prompt": ["q"], "chosen": [b"a"], "rejected": ["b"]}), file)
    with pytest.raises(DataError, match=r"x\.parquet, row 1: chosen: expected text, got a bytes"):
        pairs(file)
    texts = pa.array([PLAIN["chosen"]]).dictionary_encode()
    table = pa.table({**{k: [v] for k, v in PLAIN.items()}, "chosen": texts, "system": pa.nulls(1)})
    pq.write_table(table, file)
    assert pairs(file)[0].chosen == PLAIN["chosen"]


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    monkeypatch.setattr("harness.outside.FREELY_UNPACKED", 1 << 20)
    with pytest.raises(DataError, match=r"bomb\.jsonl\.gz: can't be read \(it unpacks to more than 1,048,576 bytes"):
        pairs(written(tmp_path, "bomb.jsonl.gz", gzip.compress(bytes(8 << 20))))
