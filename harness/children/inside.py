"""Runs a program that nobody has read, in a prison: a script by itself, `python -I -S inside.py FOLDER LIMITS`.

Reads the program from its standard input, and writes one line: `passed NONCE`, or why it did not pass. Linux only.

Namespaces (where the machine allows them): no network, its own processes, all files read-only but an empty FOLDER of
limited size, an empty /proc. A filter of system calls: no new processes, no sockets, no tracing; without namespaces no
writing of files either. Resource limits: processor time, memory, size and number of files. A clean environment is the
caller's part. The program runs in a process of its own below this one, which ends it at the time limit, and itself ends
with its parent.
"""

import ctypes
import errno
import json
import os
import platform
import resource
import signal
import struct
import sys
import time
from typing import Any, NoReturn

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USER, NEW_REST = 0x10000000, 0x00020000 | 0x40000000 | 0x20000000 | 0x08000000  # mounts, network, processes, IPC
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 1, 2, 4, 0x4000, 0x40000
MOUNT_SETATTR, AT_RECURSIVE, READ_ONLY = 442, 0x8000, 1
DEATH_SIGNAL, NO_NEW_PRIVILEGES, SECCOMP = 1, 38, 22  # of prctl
CLONE_THREAD = 0x10000
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
UNKNOWN = 0x00050000 | errno.ENOSYS
"""As if the kernel had no such call: the C library then falls back to the older one, which is filtered by its flags."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Numbers of system calls; None: the architecture has no such call.
CLONE, PRCTL = {"x86_64": 56, "aarch64": 220}, {"x86_64": 157, "aarch64": 167}
CLONE3, OPENAT2 = 435, 437
OPEN, OPENAT = {"x86_64": 2, "aarch64": None}, {"x86_64": 257, "aarch64": 56}
FORBIDDEN = {
    # fork, vfork, socket, socketpair, ptrace, process_vm_readv and _writev, unshare, setns, mount, umount2, pivot_root,
    # chroot, bpf, perf_event_open, keyctl, add_key, request_key, kexec_load, init_module, userfaultfd, io_uring_*
    "x86_64": (57, 58, 41, 53, 101, 310, 311, 272, 308, 165, 166, 155, 161, 321, 298, 250, 248, 249, 246, 175, 323),
    "aarch64": (198, 199, 117, 270, 271, 97, 268, 40, 39, 41, 51, 280, 241, 219, 217, 218, 104, 105, 282),
}
FORBIDDEN_ON_ALL = (425, 426, 427, 428, 429, 430, 431, 432, 433, 442)  # io_uring_*, the new mount calls
CHANGING = {
    # creat, truncate, rename*, mkdir*, rmdir, link*, unlink*, symlink*, mknod*, chmod*, chown*, utime*, *xattr
    "x86_64": (
        *(85, 76, 77, 82, 264, 316, 83, 258, 84, 86, 265, 87, 263, 88, 266, 133, 259, 90, 91, 268, 92, 93, 94, 260),
        *(132, 235, 261, 280, 188, 189, 190, 197, 198, 199, 452),
    ),
    "aarch64": (45, 46, 38, 276, 34, 37, 35, 36, 33, 52, 53, 54, 55, 88, 5, 6, 7, 14, 15, 16, 452),
}


def main(folder: str, limits: dict[str, Any]) -> NoReturn:
    LIBC.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    program, nonce = sys.stdin.read(), os.urandom(16).hex()
    apart = _unshare()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run(program, folder, limits, apart, writer, nonce)
    os.close(writer)
    said = _outcome(child, reader, limits["seconds"], nonce)
    print(json.dumps({"said": said, "apart": apart}), flush=True)
    os._exit(0)


def _unshare() -> bool:
    """Enter new namespaces, as the same user; whether the machine allows it."""
    user, group = os.getuid(), os.getgid()
    if LIBC.unshare(NEW_USER | NEW_REST) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return True


def _outcome(child: int, reader: int, seconds: float, nonce: str) -> str:
    """What came of the program, waited for until the time limit; it is dead afterwards, with all that it started."""
    end = time.monotonic() + seconds
    status = None
    while status is None and time.monotonic() < end:
        done, found = os.waitpid(child, os.WNOHANG)
        status = found if done else None
        if status is None:
            time.sleep(0.005)
    if status is None:
        os.kill(child, signal.SIGKILL)  # the first process of its namespace: the kernel ends all others with it
        os.waitpid(child, 0)
        return "time limit"
    os.set_blocking(reader, False)
    try:
        said = os.read(reader, 1000).decode(errors="replace")
    except BlockingIOError:
        said = ""
    if said == nonce:
        return "passed"
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    if ended_by in (signal.SIGXCPU, signal.SIGKILL):
        return "time limit"
    return said.replace(nonce, "") or "ended early"


def _run(program: str, folder: str, limits: dict[str, Any], apart: bool, writer: int, nonce: str) -> NoReturn:
    """Imprison this process and run the program in it; never returns."""
    said = "not started"
    try:
        LIBC.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        os.setsid()
        if apart:
            _own_files(folder, limits["file_bytes"])
            _leave_first()
        os.chdir(folder)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        for kind, most in _resources(limits):
            resource.setrlimit(kind, (most, most))
        code = compile(program, "<answer>", "exec")
        _filter(may_write=apart)
        said = "failed"
        exec(code, {})
        said = nonce
    except BaseException as error:  # whatever the program raises, SystemExit among it
        said = f"{said}: {type(error).__name__}: {error}"[:200]
    finally:
        os.write(writer, said.encode(errors="replace"))
        os._exit(0)


def _leave_first() -> None:
    """Go on in a second process: the first one of a namespace is spared by the signals that limits send. It exits with
    the other's signal, or 0."""
    second = os.fork()
    if second:
        status = os.waitpid(second, 0)[1]
        os._exit(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
    LIBC.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _resources(limits: dict[str, Any]) -> list[tuple[int, int]]:
    return [
        (resource.RLIMIT_CPU, int(limits["cpu_seconds"])),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_DATA, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 64),
        (resource.RLIMIT_CORE, 0),
    ]


def _own_files(folder: str, size: int) -> None:
    """All files read-only but an empty folder in memory; nothing of other processes in /proc."""
    _check(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    attributes = ctypes.create_string_buffer(struct.pack("QQQQ", READ_ONLY, 0, 0, 0))
    _check(LIBC.syscall(MOUNT_SETATTR, -100, b"/", AT_RECURSIVE, attributes, 32))
    options = f"size={size},nr_inodes=256,mode=700".encode()
    _check(LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", MS_NOSUID | MS_NODEV, options))
    _check(LIBC.mount(b"tmpfs", b"/proc", b"tmpfs", MS_RDONLY, b"size=4k"))


def _filter(may_write: bool) -> None:
    """Refuse system calls (seccomp, BPF over the call's number and first arguments)."""
    machine = platform.machine()
    load = (0x20, 0, 0, 0)  # the call's number
    rules: list[tuple[int, int, int, int]] = [(0x20, 0, 0, 4), (0x15, 1, 0, ARCHITECTURES[machine]), (6, 0, 0, KILL)]
    rules += [load, (0x35, 0, 1, 0x40000000), (6, 0, 0, REFUSE)]  # x86_64's second table
    forbidden = (*FORBIDDEN[machine], *FORBIDDEN_ON_ALL, *(() if may_write else CHANGING[machine]))
    for number in forbidden:
        rules += [(0x15, 0, 1, number), (6, 0, 0, REFUSE)]
    for number in (CLONE3, *(() if may_write else (OPENAT2,))):
        rules += [(0x15, 0, 1, number), (6, 0, 0, UNKNOWN)]
    # clone must have CLONE_THREAD among its flags; prctl must not take away the signal at the parent's death.
    rules += [(0x15, 0, 4, CLONE[machine]), (0x20, 0, 0, 16), (0x45, 1, 0, CLONE_THREAD), (6, 0, 0, REFUSE), load]
    rules += [(0x15, 0, 4, PRCTL[machine]), (0x20, 0, 0, 16), (0x15, 0, 1, DEATH_SIGNAL), (6, 0, 0, REFUSE), load]
    for opening, argument in ((OPEN[machine], 24), (OPENAT[machine], 32)):
        if not may_write and opening is not None:
            number = opening
            rules += [(0x15, 0, 4, number), (0x20, 0, 0, argument), (0x45, 0, 1, WRITING), (6, 0, 0, REFUSE), load]
    rules.append((6, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code)))
    _check(LIBC.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _check(LIBC.prctl(SECCOMP, 2, header, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
