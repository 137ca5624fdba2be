"""Programs that are started: with a clean path and environment, and gone when who started them is."""

import ast
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.children.start import HUB, environment, run, start, stop
from harness.children.watch import PATIENCE

ROOT = Path(__file__).parents[2]


def test_what_a_program_says_and_how_it_ends() -> None:
    done = run([sys.executable, "-c", "import sys; print('out'); print('bad', file=sys.stderr); sys.exit(3)"], 30)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "bad\n", 3)
    assert run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], 30).returncode == -signal.SIGKILL
    missing = run(["no-such-program"], 30)
    assert missing.returncode == 127
    assert missing.stderr == "no-such-program: No such file or directory\n"


def test_a_program_that_takes_too_long_is_stopped() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"sleep has not ended after 0\.2 s"):
        run(["sleep", "60"], 0.2)
    assert time.monotonic() - started < 5


NAMES = ("json", "torch", "accelerate", "harness", "sitecustomize", "encodings", "runpy", "logging")


@pytest.mark.parametrize("python_path", ["", ".", ":", "./", "{cwd}", "{cwd}/", "{cwd}/../{name}", "lib:"])
def test_modules_of_the_working_folder_are_not_run(
    python_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", python_path.format(cwd=tmp_path, name=tmp_path.name))
    monkeypatch.setenv("PYTHONSTARTUP", "json.py")
    # What it starts itself is as clean: `accelerate launch` starts the training like this.
    script = "import json, subprocess, sys; print(subprocess.run([sys.executable, '-m', 'json.tool', '-h']).returncode)"
    done = run([sys.executable, "-c", script], 30)
    assert done.stdout.endswith("0\n"), done.stderr
    assert not (tmp_path / "ran").exists()


def test_programs_of_the_working_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\ntouch ran\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for path in (".", "", "relative"):
        monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
        run(["git", "--version"], 30)
        assert not (tmp_path / "ran").exists()


def test_the_harness_is_found_and_own_folders_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mine.py").write_text("NAME = 'mine'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.chdir(tmp_path)
    done = run([sys.executable, "-c", "import mine, harness; print(mine.NAME, harness.__file__)"], 30)
    assert done.stdout.split() == ["mine", str(ROOT / "harness" / "__init__.py")]


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "GH_TOKEN", "DB_PASSWORD", "my_secret"]
)
def test_secrets_stay_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "sk-planted-0123456789")
    assert "sk-planted" not in run(["env"], 30, HUB).stdout


@pytest.mark.parametrize("name", ["PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT"])
def test_what_makes_python_run_something_else_stays_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x.py")
    assert name not in environment(HUB)


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "HF_HOME", "CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "MASTER_ADDR", "OMP_NUM_THREADS"),
        *("TOKENIZERS_PARALLELISM", "HTTPS_PROXY", "ACCELERATE_USE_CPU", "TORCH_LOGS", "LD_LIBRARY_PATH"),
    ],
)
def test_what_trainings_need_is_passed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "value")
    assert environment(HUB)[name] == "value"


TREE = """
import subprocess, sys, time
own = ["sh", "-c", "trap '' TERM; setsid sleep 321 & sleep 321 & wait"]
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "worker"], start_new_session=True)
else:
    subprocess.Popen(own)
print("up", flush=True)
time.sleep(300)
"""
PARENT = """
import sys
from harness.children.start import start
child = start([sys.executable, sys.argv[1]], sys.stderr)
assert [child.stdout.readline() for _ in range(2)] == ["up\\n"] * 2
print(child.pid, flush=True)
child.wait()
"""


def running(mark: str) -> dict[int, str]:
    """Command lines of live processes that hold a text, by process id."""
    lines = {}
    for folder in Path("/proc").iterdir():
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            line = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # has just ended, or is no process
        if mark in line and state != "Z":
            lines[int(folder.name)] = line
    return lines


ENDS = [
    *(("parent", number) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGABRT)),
    *(("watcher", number) for number in (signal.SIGTERM, signal.SIGINT)),
]


def left_after(victim: str, number: int, folder: Path) -> dict[int, str]:
    """What still runs a while after the signal."""
    script = folder / "tree.py"
    mark = f"{time.monotonic_ns() % 10**9 + 10**9}"  # seconds that nobody else sleeps
    script.write_text(TREE.replace("321", mark))
    command = [sys.executable, "-c", PARENT, str(script)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert parent.stdout is not None
        watcher = int(parent.stdout.readline())
        deadline = time.monotonic() + 40
        while sum(line.startswith("sleep") for line in running(mark).values()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(parent.pid if victim == "parent" else watcher, number)
        deadline = time.monotonic() + (10 if victim == "parent" else PATIENCE + 10)
        while (left := {**running(mark), **running(str(script))}) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left
    finally:
        parent.kill()
        parent.wait()
        for process in running(mark) | running(str(script)):
            os.kill(process, signal.SIGKILL)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], dict[int, str]]:
    """By how it was ended; all at once, for this is seconds of waiting each."""
    with ThreadPoolExecutor(len(ENDS)) as pool:
        found = pool.map(lambda end: left_after(*end, tmp_path_factory.mktemp("tree")), ENDS)
        return dict(zip(ENDS, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "number"), ENDS)
def test_all_that_was_started_ends_with_the_parent(
    victim: str, number: int, left: dict[tuple[str, int], dict[int, str]]
) -> None:
    """Workers with sessions of their own and those that ignore SIGTERM too, as those of `accelerate launch` may be."""
    assert not left[victim, number]


def test_a_stopped_program_gets_the_time_to_end(tmp_path: Path) -> None:
    script = "import signal, sys, time; signal.signal(15, lambda *_: (print('bye', flush=True), sys.exit(5)))\n"
    child = start([sys.executable, "-c", script + "print('up', flush=True); time.sleep(60)"], subprocess.DEVNULL)
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    stop(child)
    assert child.stdout.read() == "bye\n"
    assert child.returncode == 5


def test_nothing_else_starts_programs() -> None:
    """One place for it: `harness.children`."""
    for path in sorted((ROOT / "harness").rglob("*.py")):
        if path.is_relative_to(ROOT / "harness" / "children"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {"subprocess", "multiprocessing", "pty"}, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                started = ("system", "popen", "fork", "forkpty", "startfile", "posix_spawn")
                assert not node.attr.startswith((*started, "exec", "spawn")), f"{path}: os.{node.attr}"
