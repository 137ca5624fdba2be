"""What `harness label` does with a file of preference pairs: the page, and how often people share its preferences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import say
from harness.cli.own.init import columns_of_option
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.judging.gold.labels import Agreement
    from harness.judging.gold.preferences import OwnPairs, Shared


def is_board(path: Path) -> bool:
    """Whether a path is a board's, or was meant as one, and not a file of pairs."""
    from harness.outside import parse_json, read_text

    if path.is_dir() or path.name == "board.json" or not path.suffix:
        return True
    if path.suffix != ".json":
        return False
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError):
        return False  # the reader of pairs says what is wrong
    return isinstance(content, Mapping) and "rows" in content


def label_pairs(
    file: Path,
    columns: str | None,
    pairs: int,
    seed: int,
    out: Path | None,
    read: Sequence[Path] | None,
    for_boards: Sequence[str | None],
) -> None:
    """`harness label` of a file. `for_boards`: the options that must not be given. Raises HarnessError."""
    if any(option is not None for option in for_boards):
        raise HarnessError(f"{file}: pairs have no rows and benchmarks; leave out --rows, --against, --benchmark")
    if read:
        read_people(file, columns, read, out)
    else:
        write_page(file, columns, pairs, seed, out)


def write_page(file: Path, columns: str | None, pairs: int, seed: int, out: Path | None) -> None:
    """Write a page of a random part of the file's pairs, and its key. Raises DataError and StoreError."""
    from harness.boards.writing import own_file, write_output
    from harness.judging.gold.draw import draw, save_key
    from harness.judging.gold.page import page
    from harness.judging.gold.preferences import labels_folder

    own = _own(file, columns)
    drawn = draw(own.contest, pairs, seed)
    key = save_key(labels_folder(file), drawn.key)
    path = out or own_file(labels_folder(file), f"{drawn.key.id}.html")
    write_output(path, page(drawn))
    say(f"{path}: {len(drawn.key.items)} of {len(own.pairs)} pairs of {file}")
    say(f"Its key is {key}: keep it, and show it to nobody who labels.")
    say(f"Then: harness label {file} {f'--columns {columns} ' if columns else ''}--read FILE")


def read_people(file: Path, columns: str | None, paths: Sequence[Path], out: Path | None) -> None:
    """Print how often people prefer what the file does, write what they prefer, and the corrected pairs into `out`.
    Raises DataError and StoreError."""
    from harness.judging.gold.labels import joined, read_labels
    from harness.judging.gold.preferences import labels_folder, save_preferences, shared

    if out is not None and out.resolve() == file.resolve():
        raise HarnessError(f"--out: {out} is the file of pairs itself; name another")
    own = _own(file, columns)
    key, people = read_labels(labels_folder(file), paths, file)
    labels = joined(key, people, own.contest, ())
    for found in shared(labels):
        say(_line(found, file))
    say_agreement(labels.agreement)
    path = save_preferences(file, own, labels)
    judged = sum(verdict.value is not None for verdict in labels.verdicts)
    say(f"{path}: what people prefer of {judged} pairs, with the line or row of each")
    if out is not None:
        from harness.data.convert import write
        from harness.judging.gold.preferences import corrected

        done = corrected(own, labels.verdicts)
        write(out, done.rows, native=False)
        say(f"{out}: {len(done.rows)} pairs, {done.turned} of them the other way round; {done.ties} ties are left out")


def _own(file: Path, columns: str | None) -> "OwnPairs":
    from harness.judging.gold.preferences import own_pairs

    return own_pairs(file, columns_of_option(columns))


def _line(found: "Shared", file: Path) -> str:
    ties = f"{found.ties} {'tie' if found.ties == 1 else 'ties'}, {found.skipped} skipped or not reached"
    if found.rate.value is None or found.rate.ci95 is None:
        return f"{found.who} prefers neither answer of any pair of {file.name}; {ties}"
    low, high = found.rate.ci95
    figure = f"{found.rate.value:.1f} %, 95 % CI [{low:.1f}, {high:.1f}]"
    return f"{found.who} prefers what {file.name} prefers in {found.agreed} of {found.rate.n} pairs: {figure}; {ties}"


def say_agreement(agreement: "Sequence[Agreement]") -> None:
    """Print how far people agree with each other."""
    for agreed in agreement:
        kappa = "–" if agreed.kappa is None else f"{agreed.kappa:.2f}"
        say(f"{agreed.first} and {agreed.second}: {agreed.same} of {agreed.pairs} pairs alike, Cohen's kappa {kappa}")
