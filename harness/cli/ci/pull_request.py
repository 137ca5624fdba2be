"""What `.github/actions/gate` asks of a pull request, a line for each answer.

    python -m harness.cli.ci.pull_request event FILE                     # number, base, head; nothing without one
    python -m harness.cli.ci.pull_request pair BASE HEAD RECIPE [ROW]    # recipe, board, row, the base's row or nothing

No command of `harness`, since only the action's script runs it.
"""

import sys
from pathlib import Path

from harness.cli.console import say
from harness.errors import HarnessError


def main(arguments: list[str]) -> int:
    """The exit code: 2 after an error of one line."""
    from harness.gate.pull_request import pair, read_event

    try:
        match arguments:
            case ["event", file]:
                found = read_event(Path(file))
                lines = [] if found is None else [str(part) for part in found]
            case ["pair", base, head, recipe, *row] if len(row) < 2:
                made = pair(Path(base), Path(head), recipe, row[0] if row and row[0] else None)
                lines = [str(made.recipe), made.board, made.row, made.base_row or ""]
            case _:
                raise HarnessError("expected event FILE, or pair BASE HEAD RECIPE [ROW]")
    except HarnessError as error:
        say(f"harness: {error}", error=True)
        return 2
    for line in lines:
        say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
