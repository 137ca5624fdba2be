"""How a command ends when something goes wrong that nobody foresaw, is stopped early, or can't write its characters."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli import endings
from harness.errors import DataError

ROOT = Path(__file__).parents[2]
BOARD = str(ROOT / "leaderboards" / "quickstart")
HARNESS = [sys.executable, "-m", "harness.cli"]


def test_an_unforeseen_error_is_one_line_and_its_traceback_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    with pytest.raises(KeyError) as caught:
        dict[str, int]()["\x1b[31m\n::error::forged"]
    assert endings.as_exit_code(caught.value) == 2
    (log,) = (tmp_path / "logs").glob("error-*.log")
    line = capsys.readouterr().err
    assert line.startswith("harness: an error that should not occur (KeyError: ")
    assert line.count("\n") == 1
    assert f"the traceback is in {log}" in line
    assert "\x1b" not in line
    assert "test_endings.py" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DataError("x.jsonl:1: no\nrow"), 2, "harness: x.jsonl:1: no row\n"),
        (OSError(28, "No space left on device", "/big"), 2, "harness: /big: No space left on device\n"),
        (MemoryError(), 2, "harness: out of memory"),
        (KeyboardInterrupt(), 130, "harness: stopped;"),
        (SystemExit(1), 1, ""),
        (SystemExit(None), 0, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes(error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert endings.as_exit_code(error) == code
    assert capsys.readouterr().err.startswith(text)


def test_without_a_home_there_is_one_line(tmp_path: Path) -> None:
    code = (
        "import harness.files, pathlib\n"
        "def no_home(*a, **k): raise RuntimeError('could not determine the home directory')\n"
        "harness.files.user_cache_path = no_home\n"
        "import sys; sys.argv = ['harness', 'cache', 'ls']\n"
        "from harness.cli.start import main; main()"
    )
    environment = {k: v for k, v in os.environ.items() if k != "HARNESS_HOME"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "harness: this user has no home folder; set HARNESS_HOME to a writable folder\n",
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_without_our_characters_gets_others(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "COLUMNS": "200"}
    done = subprocess.run([*HARNESS, "show", BOARD], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    assert ("95\xa0%" if encoding != "ascii" else "95") in text or "95 %" in text
    assert ("…" in text) is False or encoding in ("utf-8", "cp1252")


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen([*HARNESS, "components"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141


def test_an_interruption_while_commands_are_imported_is_one_line() -> None:
    code = (
        "import sys, time; from harness.cli import start\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'harness.cli.app': print('importing', flush=True); time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow()); sys.argv = ['harness', '--version']; start.main()"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A background shell's children ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        started = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - started < 10
        assert process.returncode == 130
        assert err == "harness: stopped; the same command goes on from the last finished stage\n"
