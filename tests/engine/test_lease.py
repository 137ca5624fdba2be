"""Locks whose holders die, stand still, or are on another machine."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.engine import lease as leases
from harness.engine.lease import Lease
from harness.errors import StoreError

HOLD = """
import sys, time
from pathlib import Path
from harness.engine.lease import Lease
lease = Lease(Path(sys.argv[1]), patience=1.0)
assert lease.try_acquire()
print("held", flush=True)
time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def elsewhere(path: Path, nonce: str = "theirs", beat: int = 0) -> None:
    """A lease as another machine writes it."""
    (path.parent / f"{path.name}.lease").write_text(json.dumps({"kernel": "another", "nonce": nonce, "beat": beat}))


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    process = holder(tmp_path / "a")
    mine = Lease(tmp_path / "a", patience=0.5)
    try:
        assert not mine.try_acquire()
        time.sleep(1.2)
        assert not mine.try_acquire()  # however long: it lives
    finally:
        process.kill()
        process.wait()
    assert mine.try_acquire()  # and a dead one's is free at once
    mine.release()


def test_one_that_stands_still_on_this_machine_keeps_it(tmp_path: Path) -> None:
    process = holder(tmp_path / "a")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        mine = Lease(tmp_path / "a", patience=0.3)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            assert not mine.try_acquire()
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()


def test_a_lease_of_another_machine_lapses_when_it_is_not_renewed(tmp_path: Path) -> None:
    elsewhere(tmp_path / "a")
    mine = Lease(tmp_path / "a", patience=0.4)
    assert not mine.try_acquire()
    time.sleep(0.2)
    elsewhere(tmp_path / "a", beat=1)  # it lives
    assert not mine.try_acquire()
    time.sleep(0.3)
    assert not mine.try_acquire()
    time.sleep(0.3)
    assert mine.try_acquire()
    assert mine.held()
    mine.release()
    assert not (tmp_path / "a.lease").exists()


def test_a_holder_says_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another machine sees of this one: the flock not at all, the count going up."""
    mine = Lease(tmp_path / "a", patience=0.4)
    assert mine.try_acquire()
    seen = set()
    for _ in range(10):
        seen.add((tmp_path / "a.lease").read_text())
        time.sleep(0.06)
    assert len(seen) > 2
    mine.release()


def test_one_that_comes_back_finds_its_lease_lost(tmp_path: Path) -> None:
    mine = Lease(tmp_path / "a", patience=0.2)
    assert mine.try_acquire()
    elsewhere(tmp_path / "a")
    with pytest.raises(StoreError, match="lost to another run"):
        mine.check()
    time.sleep(0.2)
    assert json.loads((tmp_path / "a.lease").read_text())["nonce"] == "theirs"  # not overwritten by a late beat
    mine.release()
    assert (tmp_path / "a.lease").exists()


def test_no_clock_of_the_day_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(tmp_path / "a")
    mine = Lease(tmp_path / "a", patience=0.5)
    assert not mine.try_acquire()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    os.utime(tmp_path / "a.lease", (0, 0))
    assert not mine.try_acquire()


def test_two_that_take_over_at_once_don_t_both_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that knows no flocks between machines: the last to write has it."""

    class NoFlock:
        def __init__(self, path: Path) -> None:
            pass

        def acquire(self, timeout: float) -> None:
            pass

        def release(self) -> None:
            pass

    monkeypatch.setattr(leases, "FileLock", NoFlock)
    elsewhere(tmp_path / "a")
    both = [Lease(tmp_path / "a", patience=0.3) for _ in range(2)]
    assert not any(lease.try_acquire() for lease in both)
    time.sleep(0.4)
    got: list[bool] = []
    threads = [threading.Thread(target=lambda lease=lease: got.append(lease.try_acquire())) for lease in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False, True]
    for lease in both:
        lease.release()


def test_one_that_is_taken_over_meanwhile_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(tmp_path / "a")
    mine, rename = Lease(tmp_path / "a", patience=0.1), os.rename
    assert not mine.try_acquire()
    time.sleep(0.15)

    def late(source: Path, target: Path) -> None:
        elsewhere(tmp_path / "a", nonce="faster")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert not mine.try_acquire()
    assert json.loads((tmp_path / "a.lease").read_text())["nonce"] == "faster"


def test_a_cut_lease_file_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / "a.lease").write_text('{"kernel": "ano')
    mine = Lease(tmp_path / "a")
    assert mine.try_acquire()
    mine.release()


@pytest.mark.slow
def test_without_flocks_one_of_many_has_it(tmp_path: Path) -> None:
    """Eight machines that come at once, again and again: a counter in a file loses nothing."""
    script = (
        "import sys; from pathlib import Path; from harness.engine import lease\n"
        "class NoFlock:\n"
        "    def __init__(self, path): pass\n"
        "    def acquire(self, timeout): pass\n"
        "    def release(self): pass\n"
        "lease.FileLock = NoFlock; lease.kernel = lambda: sys.argv[2]\n"
        "mine = lease.Lease(Path(sys.argv[1]) / 'a'); counter = Path(sys.argv[1]) / 'counter'\n"
        "for _ in range(30):\n"
        "    mine.acquire(poll=0.001)\n"
        "    counter.write_text(str(int(counter.read_text()) + 1)); mine.release()\n"
    )
    (tmp_path / "counter").write_text("0")
    root = Path(__file__).parents[2]
    machines = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), f"kernel {i}"], cwd=root) for i in range(8)
    ]
    assert [m.wait(timeout=120) for m in machines] == [0] * 8
    assert (tmp_path / "counter").read_text() == "240"
    assert {p.name for p in tmp_path.iterdir()} == {"counter"}


def test_a_file_system_without_hard_links_or_flocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(os, "link", none)
    one, other = Lease(tmp_path / "a", patience=0.4), Lease(tmp_path / "a", patience=0.4)
    assert one.try_acquire()
    assert not other.try_acquire()
    time.sleep(0.5)
    assert not other.try_acquire()  # it beats
    one.release()
    assert other.try_acquire()
    other.release()


def test_a_lease_that_is_held_again_and_again_is_no_dead_one(tmp_path: Path) -> None:
    """A watcher that always looks while it is held doesn't take it for one that stands still."""
    seen = set()
    mine = Lease(tmp_path / "a")
    for _ in range(3):
        with mine:
            seen.add((tmp_path / "a.lease").read_bytes())
    assert len(seen) == 3
