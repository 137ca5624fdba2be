"""The recipe of a gate on a pull request: the base branch's, with a row for each side's answers.

Answers are all that is read of a pull request, as data: copied where they are regular files below its folder. Judge,
prompts, references and everything else are the base branch's, as is the baseline, so nothing that a stranger writes
says how a row is judged.
"""

import filecmp
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from harness.boards.writing import write_output
from harness.errors import DataError, RecipeError, nearest, quoted
from harness.outside import LARGEST_DATA, open_file, parse_json, read_text, reason_of
from harness.recipe.reading.document import Document

FOLDER = ".pull-request"
"""Beside the base branch's recipe: the recipe that is made, and the pull request's answers."""
BASE = ".base"
"""What follows a row's id for the row of the base branch's answers."""
_POINTER = b"version https://git-lfs"


class Event(NamedTuple):
    """A pull request of a CI's event: its number, and the commits of its base and of itself."""

    number: int
    base: str
    head: str


class Pair(NamedTuple):
    """A recipe, the name of its board, the row to gate, and the row of the base branch's answers; None where the base
    branch has no such file."""

    recipe: Path
    board: str
    row: str
    base_row: str | None


def read_event(path: Path) -> Event | None:
    """The pull request of a file like GitHub's event; None for an event without one. Raises DataError."""
    try:
        event = parse_json(read_text(path))
        pull = event.get("pull_request") if isinstance(event, dict) else None
        if pull is None:
            return None
        found = Event(pull["number"], pull["base"]["sha"], pull["head"]["sha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} can't be read ({error!r}); expected the event of a pull request") from None
    if not isinstance(found.number, int) or not all(_is_commit(sha) for sha in found[1:]):
        raise DataError(f"{path}: expected a pull request's number and two commits, got {quoted(str(found))}")
    return found


def _is_commit(value: Any) -> bool:
    return isinstance(value, str) and len(value) in (40, 64) and set(value) <= set("0123456789abcdef")


def pair(base: Path, head: Path, recipe: str, row: str | None = None) -> Pair:
    """Write the recipe for the answers in the folders `base` and `head`; `recipe`: its path in both. `row`: by default
    the only one. Where both are one folder, as after a merge, there are no rows of the base branch.

    Raises RecipeError and DataError for a recipe that trains, replays or has gates of its own, a row that isn't there,
    and answers that are missing, a link or not whole."""
    path = base / recipe
    document = Document.read(path)
    data, systems = document.data, _systems(document, path)
    folder = path.parent / FOLDER
    if folder.exists() or folder.is_symlink():
        raise DataError(f"{folder} is there already; expected a fresh checkout of the base branch")
    ids = [system["id"] for system in systems if not system.get("verdicts")]
    if row is None and len(ids) != 1:
        raise RecipeError(f"{path}: name the row to gate, one of {', '.join(ids) or 'none: no row is judged'}")
    row = row or ids[0]
    if row not in ids:
        raise RecipeError(f"{path}: no row {quoted(row)} that is judged; {nearest(row, ids)}")
    rows, base_row = [], None
    for system in systems:
        if system["id"] not in ids or head == base:
            rows.append(system)
            continue
        files = dict(_files(system, path))
        answers, changed = _taken(system, files, base, head, path.parent)
        both = all((path.parent / file).is_file() for file in files.values())
        if both and (changed or system["id"] == row):
            rows.append(system | {"id": f"{system['id']}{BASE}"})  # first: boards compare with the first row
            base_row = rows[-1]["id"] if system["id"] == row else base_row
        rows.append(system | {"answers": answers})
    made = path.parent / (FOLDER + ".yaml")
    write_output(made, json.dumps(data | {"systems": rows}, indent=1, ensure_ascii=False) + "\n")
    return Pair(made, str(data.get("name", "")), row, base_row)


def _systems(document: Document, path: Path) -> list[dict[str, Any]]:
    """The recipe's rows from files. Their ids and answers are there; all else is checked when it runs."""
    data = document.data
    for field in ("policy", "sweep", "gates"):
        if data.get(field):
            at = document.location((field,)).text
            why = "the action says what is tested" if field == "gates" else "rows of `systems`, whose answers are files"
            raise RecipeError(f"{at}: a gate on pull requests takes no `{field}`; expected {why}")
    systems = data.get("systems")
    if not isinstance(systems, list) or not systems:
        raise RecipeError(f"{path}: no `systems`; expected rows whose answers are files: [{{id: ..., answers: ...}}]")
    for number, system in enumerate(systems):
        at = document.location(("systems", number)).text
        whole = isinstance(system, dict) and isinstance(system.get("id"), str)
        if not whole or not isinstance(system.get("answers"), dict):
            raise RecipeError(
                f"{at}: expected a row with an id and answers: {{id: mine, answers: {{alpaca_eval: FILE}}}}"
            )
    judge = (data.get("evaluation") or {}).get("judge") if isinstance(data.get("evaluation"), dict) else None
    if isinstance(judge, dict) and judge.get("name") == "replay":
        raise RecipeError(f"{path}: a judge that replays verdicts can't judge new answers; expected one that is asked")
    return systems


def _files(system: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """Each benchmark's file of answers, relative to the recipe's folder."""
    for benchmark, written in system["answers"].items():
        file = written.get("file") if isinstance(written, dict) else written
        if not isinstance(file, str) or "${" in file or PurePosixPath(file).is_absolute():
            raise RecipeError(
                f"{path}: row {quoted(system['id'])}, answers to {quoted(benchmark)}: expected a file by its relative "
                "path, without variables, so that it is known on both sides"
            )
        yield benchmark, file


def _taken(
    system: Mapping[str, Any], files: Mapping[str, str], base: Path, head: Path, folder: Path
) -> tuple[dict[str, Any], bool]:
    """The row's answers with copies of the pull request's files, and whether any of them is another."""
    taken: dict[str, Any] = {}
    changed = False
    for benchmark, file in files.items():
        inside = PurePosixPath(folder.relative_to(base).as_posix()) / file
        name = f"{FOLDER}/{system['id']}.{benchmark}{''.join(PurePosixPath(file).suffixes)}"
        _copy(head, inside, folder / name, system["id"])
        written = system["answers"][benchmark]
        taken[benchmark] = written | {"file": name} if isinstance(written, dict) else name
        there = (folder / file).is_file()
        changed |= not there or not filecmp.cmp(folder / file, folder / name, shallow=False)
    return taken, changed


def _copy(head: Path, inside: PurePosixPath, target: Path, row: str) -> None:
    """Copy a regular file below `head`. Raises DataError where it isn't one: nothing outside is shown on a board."""
    what = f"{inside}, the answers of row {quoted(row)}"
    parts = [part for part in inside.parts if part != "."]
    if ".." in parts:
        raise DataError(f"{what}: expected a path below the recipe's folder")
    steps = [head.joinpath(*parts[: n + 1]) for n in range(len(parts))]
    if any(step.is_symlink() for step in steps):
        raise DataError(f"{what}: it is a link in the pull request; expected a regular file")
    try:
        with open_file(steps[-1], inside=head) as file:
            data = file.read(LARGEST_DATA + 1)
    except OSError as error:
        raise DataError(f"{what}: can't be read in the pull request ({reason_of(error)}); add the file") from None
    if len(data) > LARGEST_DATA:
        raise DataError(f"{what}: it has more than {LARGEST_DATA:,} bytes; expected a file of answers")
    if data.startswith(_POINTER):
        raise DataError(
            f"{what}: it is a pointer of Git LFS; check out with `lfs: true`, and set `head` to that folder"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
