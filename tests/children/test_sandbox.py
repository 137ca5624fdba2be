"""A model's code is contained: whatever it tries, nothing happens outside, and the outcome says so."""

import os
import socket
import tempfile
import threading
from pathlib import Path

import pytest

from harness.children import inside
from harness.children.sandbox import Limits, check_sandbox, run_program, run_programs

pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux", reason="programs are contained on Linux only")
BRIEF = Limits(cpu_seconds=1, seconds=1.0)


def test_what_passes() -> None:
    check_sandbox()
    programs = ["assert 1 + 1 == 2", "open('x', 'w').write('1'); assert open('x').read() == '1'", "x = 1 / 0"]
    outcomes = run_programs(programs)
    assert [outcome.passed for outcome in outcomes] == [True, True, False]
    assert "ZeroDivisionError" in (outcomes[2].reason or "")


@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess\nsubprocess.run(['true'])",
        "import multiprocessing as m\nm.get_context('spawn').Process(target=print).start()",
        "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
        "import ctypes\nassert ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0",
    ],
)
def test_no_process_is_started(program: str) -> None:
    outcome = run_program(program, BRIEF)
    assert not outcome.passed
    assert "failed" in (outcome.reason or "")


def test_loops_and_sleeps_end() -> None:
    outcomes = run_programs(["while True: pass", "import time\ntime.sleep(1000)"], BRIEF)
    assert [outcome.reason for outcome in outcomes] == ["time limit", "time limit"]


@pytest.mark.parametrize("apart", [True, False], ids=["namespaces", "filter alone"])
def test_nothing_is_written_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool) -> None:
    script = _script(tmp_path, apart)
    monkeypatch.setattr(inside, "__file__", str(script))
    target, kept = tmp_path / "written", tmp_path / "kept"
    kept.write_text("1")
    tries = [
        f"open({str(target)!r}, 'w')",
        f"import os\nos.mkdir({str(target)!r})",
        f"import os\nos.unlink({str(kept)!r})",
        f"import os\nos.rename({str(kept)!r}, {str(target)!r})",
        f"import os\nos.chmod({str(kept)!r}, 0)",
        f"import os\nos.truncate({str(kept)!r}, 0)",
    ]
    assert not any(outcome.passed for outcome in run_programs(tries))
    assert kept.read_text() == "1"
    assert not target.exists()
    assert run_program("import random\nassert 1").passed


def test_there_is_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        outcome = run_program(f"import socket\nsocket.create_connection(('127.0.0.1', {port}))", BRIEF)
        assert not outcome.passed
        with pytest.raises(TimeoutError):
            server.accept()


def test_the_environment_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    held, _ = os.pipe()
    os.set_inheritable(held, True)
    own = f"import os\nassert 'OPENAI_API_KEY' not in os.environ\ntry: os.fstat({held + 20})\nexcept OSError: pass"
    assert run_program(own).passed
    for other in ("os.getppid()", "1", "'self'"):
        read = f"import os\nassert 'sk-secret' in open(f'/proc/{{{other}}}/environ').read()"
        assert not run_program(read).passed
    os.close(held)


def test_limits() -> None:
    memory, file = Limits(memory_bytes=1 << 28), Limits(file_bytes=1 << 16)
    assert "MemoryError" in (run_program("x = bytearray(1 << 30)", memory).reason or "")
    assert not run_program("f = open('x', 'w')\nfor _ in range(100): f.write('a' * 10**5); f.flush()", file).passed


@pytest.mark.parametrize("program", ["import os\nos._exit(0)", "raise SystemExit(0)", "quit()", "x = 1\0", "def f(:"])
def test_an_early_end_is_no_pass(program: str) -> None:
    assert not run_program(program).passed


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = threading.active_count()
    assert not run_program("import time\ntime.sleep(1000)", Limits(cpu_seconds=1, seconds=0.3)).passed
    assert threading.active_count() == before
    assert not list(tmp_path.iterdir())


def _script(folder: Path, apart: bool) -> Path:
    """The script that contains a program; without namespaces if `apart` is false, as on machines that forbid them."""
    text = Path(inside.__file__).read_text(encoding="utf-8")
    call = "if LIBC.unshare(NEW_USER | NEW_REST) != 0:"
    assert text.count(call) == 1
    path = folder / "inside.py"
    path.write_text(text if apart else text.replace(call, "if True:"), encoding="utf-8")
    return path
