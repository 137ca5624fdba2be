"""Files beside a board: several processes at once, outputs that the user names, and a log that is appended to."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.boards import writing as module
from harness.boards.read import read_board
from harness.boards.writing import (
    LOCK,
    append_output,
    content,
    open_to_append,
    own_file,
    replace_files,
    write_output,
    writing,
)
from harness.errors import StoreError
from harness.report.write import write_board
from tests.sample_boards import contents, entry

ROUNDS = """
import sys
import tempfile
from pathlib import Path
from harness.boards.read import read_board
from harness.boards.writing import writing
from harness.pipeline.public_data import write_public_data
from harness.report.write import write_board
from tests.sample_boards import entry

folder, me, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for i in range(rounds):
    rows = [entry("base", "base"), *(entry(f"row-{(me + i + k) % 5}", "sdpo") for k in range(1 + (me + i) % 3))]
    with writing(folder):
        write_board(folder, "x", rows)
        write_public_data(folder, {f"data/alpaca_eval/{row.id}/model_outputs.json": f"[{i}]" for row in rows})
        assert [row.id for row in read_board(folder).entries] == [row.id for row in rows]
        names = {path.name for path in (folder / "data" / "alpaca_eval").iterdir()}
        assert names == {row.id for row in rows}, names
    write_board(folder, "x", rows)
    write_public_data(folder, {})
"""


@pytest.mark.slow
def test_three_processes_write_one_board(tmp_path: Path) -> None:
    folder = tmp_path / "boards" / "x"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ROUNDS, str(folder), str(me), "40"],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in range(3)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    read_board(folder)
    assert not [name for name in contents(folder) if "tmp" in name or "lock" in name]


def test_three_threads_write_one_board(tmp_path: Path) -> None:
    def write(me: int) -> None:
        for i in range(3):
            rows = [entry("base", "base"), *(entry(f"row-{(me + i + k) % 5}", "sdpo") for k in range(1 + (me + i) % 3))]
            write_board(tmp_path / "x", "x", rows)
            with writing(tmp_path / "x"):
                write_board(tmp_path / "x", "x", rows)
                assert [row.id for row in read_board(tmp_path / "x").entries] == [row.id for row in rows]

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    assert not [name for name in contents(tmp_path) if "tmp" in name or "lock" in name]


def test_who_waits_goes_on_once_the_writer_has_ended(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from harness.boards.writing import writing\n"
        "with writing(Path(sys.argv[1])):\n    print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "in\n"
        process.kill()  # leaves its lock's file behind
    started = time.monotonic()
    with writing(tmp_path), writing(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert time.monotonic() - started < 5
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_does_not_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    code = (
        "import sys; from pathlib import Path; from harness.boards.writing import writing\nwith writing(Path('.')):\n"
    )
    code += "    print('in', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "in\n"
        with pytest.raises(StoreError, match="is being written by another process"), writing(tmp_path):
            pass
        process.stdin.close()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", ".."])
def test_a_name_leads_to_no_other_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="expected a path in it"):
        own_file(tmp_path, name)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_where_one_file_can_t_be_replaced_none_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    for name in ("a", "b", "old"):
        (tmp_path / name).write_text(name)
    calls, real = [], os.replace

    def replace(*paths: Path) -> None:
        calls.append(paths)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        replace_files({tmp_path / name: b"new" for name in ("a", "new", "b")}, [tmp_path / "old"])
    assert contents(tmp_path) == {"a": b"a", "b": b"b", "old": b"old"}
    monkeypatch.undo()
    replace_files({tmp_path / name: b"new" for name in ("a", "new", "b")}, [tmp_path / "old"])
    assert contents(tmp_path) == {"a": b"new", "b": b"new", "new": b"new"}


def test_content_is_that_of_regular_files_up_to_a_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    assert content(tmp_path / "a", 3) == b"abc"
    for name, most in (("a", 2), ("link", 3), ("fifo", 3), ("missing", 3), (".", 3)):
        assert content(tmp_path / name, most) is None


# --- outputs that the user names


@pytest.mark.parametrize("write", [write_output, append_output])
def test_outputs_go_through_no_link(tmp_path: Path, write) -> None:
    keys, path = tmp_path / "keys", tmp_path / "out" / "gate.xml"
    keys.write_text("OPENAI_API_KEY")
    write(path, "first\n")  # its folder is created
    write(path, "second \udc80\n")
    assert path.read_text() == ("first\n" if write is append_output else "") + "second ?\n"
    path.unlink()
    path.symlink_to(keys)
    with pytest.raises(StoreError, match=r"gate\.xml is a symbolic link; expected a regular file"):
        write(path, "x")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreError, match=r"gate\.xml is a FIFO"):
        write(path, "x")
    assert keys.read_text() == "OPENAI_API_KEY"
    assert contents(tmp_path) == {"keys": b"OPENAI_API_KEY"}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no file system in memory")
def test_files_in_memory_are_files_like_any_others() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "out" / "gate.xml"
        write_output(path, "first\n")  # its folder is created
        assert path.read_text() == "first\n"
        path.unlink()
        path.symlink_to(Path(folder) / "keys")
        with pytest.raises(StoreError, match="is a symbolic link"):
            write_output(path, "x")


def test_an_output_may_be_a_pipe_of_the_shell(tmp_path: Path) -> None:
    reading, writing_end = os.pipe()
    write_output(Path(f"/dev/fd/{writing_end}"), "a")
    append_output(Path(f"/proc/self/fd/{writing_end}"), "b")
    os.close(writing_end)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "ab"


def test_a_log_with_another_name_is_begun_anew(tmp_path: Path) -> None:
    log, keys = tmp_path / "run.log", tmp_path / "keys"
    keys.write_text("OPENAI_API_KEY")
    os.link(keys, log)
    for _ in range(2):
        with open_to_append(log) as file:
            file.write(b"line\n")
    assert keys.read_text() == "OPENAI_API_KEY"
    assert log.read_text() == "line\nline\n"
