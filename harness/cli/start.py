"""The entry point of `harness`: what happens before the commands are imported, and how a command ends.

A command ends in one of four ways: its own exit code; 2 and one line, for an error that the user can put right and for
one that nobody foresaw, whose traceback is in a file; 130, stopped; 141, nobody reads its output any longer. 1 is kept
for gates: it means worse.
"""

import os
import signal
import sys

from harness.cli.codes import LINE, STOPPED

TYPE_CHECKING = False  # importing `typing` would leave more time in which an interruption is a traceback
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def main() -> None:
    """Run the command that the process's arguments name, and end the process."""
    # Nothing has begun while the commands are imported, so nothing needs to be unwound.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in the background of a shell
    for signum in (signal.SIGTERM,) if ignored else (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _end_at_once)
    from harness.cli.app import app
    from harness.cli.endings import as_exit_code, write_what_the_terminal_can

    write_what_the_terminal_can()
    try:
        signal.signal(signal.SIGTERM, _stop)
        if not ignored:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = app(standalone_mode=False)
        sys.stdout.flush()  # a closed pipe shows here, not after the end
        if code == STOPPED:  # typer turns the exception into its exit code
            raise KeyboardInterrupt
    except BaseException as error:
        code = as_exit_code(error)
    sys.exit(code)


def _end_at_once(signum: int, frame: "FrameType | None") -> "NoReturn":
    os.write(2, f"{LINE}\n".encode())
    os._exit(STOPPED)


def _stop(signum: int, frame: "FrameType | None") -> "NoReturn":
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
