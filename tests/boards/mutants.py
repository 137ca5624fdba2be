"""Boards that were spoilt or forged on the way: one change to one of a board's files, drawn at random."""

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

ODD: list[Any] = [
    *(None, True, "", "99.9", "NaN", [], {}, [[]], {"value": 99.9}, -1, 7, 99, 99.9, 1e300, -1e300, 10**39, 10**60),
    *(1e-300, "\x1b[2J\x1b]0;x\x07", "::error::forged", "a\nharness gate: pass", "\u202e", "\ud800", "x" * 100_000),
    *("../../x", "/etc/passwd", "a/b", "\0", [None] * 1000, {"": None}, 0, 0.5, -0.0, 2**63),
]
BARE = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "9" * 5000,
    "[" * 3000 + "]" * 3000,
    '{"a":' * 900 + "1" + "}" * 900,
]


def mutate(board: Path, rng: random.Random) -> str:
    """Change one file of a board; returns what was done."""
    files = [*sorted((board / "entries").glob("*.json")), board / "board.json", board / "baseline.json"]
    for _ in range(100):
        file, draw = rng.choice(files), rng.random()
        changes = FIGURES if draw < 0.45 else JSON if draw < 0.75 else BYTES if draw < 0.9 else FILES
        change = rng.choice(changes)
        try:
            return f"{file.relative_to(board)}: {change.__name__}: {change(file, rng)}"
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            continue  # the file has nothing of that kind
    raise AssertionError("no change applies")


def _entry(data: Any) -> Any:
    return data.get("entry", data)


def _edited(change: Callable[[Any, random.Random], str]) -> Callable[[Path, random.Random], str]:
    """A change of a file's JSON."""

    def edit(file: Path, rng: random.Random) -> str:
        data = json.loads(file.read_text(encoding="utf-8"))
        done = change(data, rng)
        file.write_text(json.dumps(data), encoding="utf-8")
        return done

    edit.__name__ = change.__name__
    return edit


# --- figures and outcomes


def _row(data: Any, rng: random.Random) -> Any:
    """An entry, or one of the rows of a board.json."""
    return rng.choice(data["rows"]) if "rows" in data else _entry(data)


@_edited
def a_figure_by_much(data: Any, rng: random.Random) -> str:
    name, metric = rng.choice(sorted(_row(data, rng)["metrics"].items()))
    metric["value"] = rng.choice([99.9, -3.0, 7.0, 0.0, (metric["value"] or 0) * 2 + 5])
    return f"{name} {metric['value']}"


@_edited
def a_figure_by_little(data: Any, rng: random.Random) -> str:
    name, metric = rng.choice(sorted(_row(data, rng)["metrics"].items()))
    field = rng.choice(["value", "stderr"])
    metric[field] = (metric[field] or 0.0) + rng.choice([-1, 1]) * rng.uniform(0.06, 0.6)
    return f"{name}.{field} {metric[field]}"


@_edited
def an_interval(data: Any, rng: random.Random) -> str:
    name, metric = rng.choice(sorted(_row(data, rng)["metrics"].items()))
    low, high = metric["ci95"]
    metric["ci95"] = rng.choice([[99.0, 100.0], [low + 30, high + 30], [high, low], [low, low], [low], [low, high, 9]])
    return f"{name} {metric['ci95']}"


@_edited
def a_count(data: Any, rng: random.Random) -> str:
    name, metric = rng.choice(sorted(_row(data, rng)["metrics"].items()))
    field = rng.choice(["n", "n_invalid"])
    metric[field] = rng.choice([metric[field] + 1, metric[field] * 100 + 805, -1, 2.5, 10**30, "10"])
    return f"{name}.{field} {metric[field]}"


@_edited
def an_outcome(data: Any, rng: random.Random) -> str:
    group, outcomes = rng.choice(sorted(_entry(data)["outcomes"].items()))
    key = rng.choice(sorted(outcomes))
    outcomes[key] = rng.choice([7, 99, -1, 1e12, 1e308, 1.9, 1.0, 3.0, None, "1.5", True, [1.5]])
    return f"{group}.{key} {outcomes[key]!r}"


@_edited
def outcomes_dropped(data: Any, rng: random.Random) -> str:
    every = _entry(data)["outcomes"]
    group = rng.choice(sorted(every))
    if rng.random() < 0.4:
        del every[group]
        return f"{group}, all"
    for key in rng.sample(sorted(every[group]), k=rng.randint(1, len(every[group]))):
        del every[group][key]
    return f"{group}, to {len(every[group])}"


@_edited
def outcomes_repeated(data: Any, rng: random.Random) -> str:
    group, outcomes = rng.choice(sorted(_entry(data)["outcomes"].items()))
    for key in rng.sample(sorted(outcomes), k=3):
        outcomes[key + rng.choice(["#2", "/2", "-again"])] = outcomes[key]
    return group


@_edited
def outcomes_permuted(data: Any, rng: random.Random) -> str:
    group, outcomes = rng.choice(sorted(_entry(data)["outcomes"].items()))
    values = list(outcomes.values())
    rng.shuffle(values)
    outcomes.update(zip(list(outcomes), values, strict=True))
    return group


@_edited
def resamples(data: Any, rng: random.Random) -> str:
    every = _entry(data)["resamples"]
    name = rng.choice(sorted(every) or ["alpaca_eval.lc_win_rate"])
    every[name] = rng.choice([[], [99.9] * 50, [x + 20 for x in every.get(name, [1.0])], [1e300, 1.0], ["a"]])
    return name


@_edited
def comparisons(data: Any, rng: random.Random) -> str:
    metric, pairs = rng.choice(sorted(data["comparisons"].items()))
    pair = rng.choice(pairs)
    field = rng.choice(sorted(set(pair) - {"ci95"}))
    pair[field] = rng.choice([0.0001, 99.9, -40.0, 0, "base", -1])
    return f"{metric}.{field} {pair[field]}"


@_edited
def comparisons_of_another(data: Any, rng: random.Random) -> str:
    metrics = data["comparisons"]
    one, other = rng.sample(sorted(metrics), k=2)
    metrics[one] = metrics[other]
    return f"{one} has those of {other}"


@_edited
def seed_groups(data: Any, rng: random.Random) -> str:
    group = rng.choice(data["training_seeds"])
    spread = rng.choice(list(group["metrics"].values()))
    spread["mean"] = 99.9
    return "99.9"


@_edited
def declared_figures(data: Any, rng: random.Random) -> str:
    entry = _row(data, rng)
    name = rng.choice(sorted(entry["metrics"]))
    figure = {"metric": name, "group": "AlpacaEval", "title": "win rate"}
    more: list[dict[str, Any]] = [
        {"pairing": None},
        {"limits": [0, 1]},
        {"decimals": 10**9},
        {"margin": 1e9},
        {"pairing": {"kind": "mean", "scale": 1e308}},
        {"pairing": {"kind": "mean", "scale": 200, "offset": 0}},
    ]
    entry["figures"] = [figure | rng.choice(more)]
    return str(entry["figures"])


@_edited
def a_report(data: Any, rng: random.Random) -> str:
    about = _row(data, rng)["provenance"]
    stage = rng.choice(sorted(about["data"]))
    report = about["data"][stage]
    field = rng.choice([*sorted(report), "tokens", "leaks", "admission", "pairs", "heldout_accuracy", "growth_with_n"])
    report[field] = rng.choice(ODD)
    return f"{stage}.{field} {str(report[field])[:40]!r}"


@_edited
def provenance(data: Any, rng: random.Random) -> str:
    about = _row(data, rng)["provenance"]
    more = ["method_id", "training_seed", "match_to", "loss", "sft", "sweep", "public", "judging", "references"]
    field = rng.choice([*sorted(about), *more])
    about[field] = rng.choice(ODD)
    return f"{field} {str(about[field])[:40]!r}"


# --- any JSON


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything within."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = [(value, key) for key in value]
    elif isinstance(value, list):
        items = [(value, i) for i in range(min(len(value), 20))]
    return items + [place for container, key in items for place in _places(container[key])]


@_edited
def anything_odd(data: Any, rng: random.Random) -> str:
    container, key = rng.choice(_places(data))
    container[key] = rng.choice(ODD)
    return f"{key} {str(container[key])[:40]!r}"


@_edited
def anything_removed(data: Any, rng: random.Random) -> str:
    container, key = rng.choice(_places(data))
    del container[key]
    return str(key)


@_edited
def a_key_renamed(data: Any, rng: random.Random) -> str:
    container, key = rng.choice([place for place in _places(data) if isinstance(place[0], dict)])
    new = rng.choice(["", "x" * 50_000, "\x1b[31m", "alpaca_eval.win_rate", "a.b.c", "..", "__class__"])
    container[new] = container.pop(key)
    return f"{key} {new[:20]!r}"


@_edited
def a_row_twice(data: Any, rng: random.Random) -> str:
    data["rows"].append(rng.choice(data["rows"]))
    return "twice"


def bare(file: Path, rng: random.Random) -> str:
    text = file.read_text(encoding="utf-8")
    at = rng.choice([i for i, c in enumerate(text) if c.isdigit() and text[i - 1] == " "])
    end = next(i for i in range(at, len(text)) if text[i] in ",\n]}")
    new = rng.choice(BARE)
    file.write_text(text[:at] + new + text[end:], encoding="utf-8")
    return new[:20]


def a_key_twice(file: Path, rng: random.Random) -> str:
    text = file.read_text(encoding="utf-8")
    at = rng.choice([i for i, c in enumerate(text) if c == "{"])
    file.write_text(text[: at + 1] + '"id": "x", "value": 99.9, "id": "y", ' + text[at + 1 :], encoding="utf-8")
    return str(at)


# --- bytes and files


def cut(file: Path, rng: random.Random) -> str:
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(len(data))])
    return "cut"


def flipped(file: Path, rng: random.Random) -> str:
    data = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 3, 30])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(bytes(data))
    return "bits"


def rewritten(file: Path, rng: random.Random) -> str:
    text = file.read_text(encoding="utf-8")
    ways: dict[str, bytes] = {
        "BOM": b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without a mark": text.encode("utf-16-le"),
        "gzip": gzip.compress(text.encode()),
        "NULs": text.encode() + b"\0" * 100,
        "CRLF": text.replace("\n", "\r\n").encode(),
        "conflict": f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> b\n".encode(),
        "LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "empty": b"",
        "null": b"null",
        "list": b"[]",
        "text": b'"board"',
        "twice": (text + text).encode(),
    }
    way = rng.choice(sorted(ways))
    file.write_bytes(ways[way])
    return way


def swapped(file: Path, rng: random.Random) -> str:
    """Two entries change places."""
    one, other = rng.sample(
        sorted((file.parent / "entries" if file.parent.name != "entries" else file.parent).glob("*.json")), k=2
    )
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    return f"{one.name} {other.name}"


def replaced(file: Path, rng: random.Random) -> str:
    """Something else stands where the file was."""
    way = rng.choice(["FIFO", "folder", "device", "secret", "nowhere", "itself", "nothing", "large"])
    file.unlink()
    if way == "FIFO":
        os.mkfifo(file)
    elif way == "folder":
        file.mkdir()
    elif way == "large":
        with file.open("wb") as large:
            large.truncate(100 << 20)
    elif way != "nothing":
        targets = {"device": "/dev/zero", "secret": "/etc/passwd", "nowhere": "/none", "itself": str(file)}
        file.symlink_to(targets[way])
    return way


def the_entries(file: Path, rng: random.Random) -> str:
    """Something else stands where the folder of entries was."""
    board = file.parent.parent if file.parent.name == "entries" else file.parent
    way = rng.choice(["link", "file", "FIFO", "none"])
    kept = board / "elsewhere"
    shutil.move(board / "entries", kept)
    if way == "link":
        (board / "entries").symlink_to("/etc")
    elif way == "file":
        (board / "entries").write_text("{}")
    elif way == "FIFO":
        os.mkfifo(board / "entries")
    return way


FIGURES = [
    *(a_figure_by_much, a_figure_by_little, an_interval, a_count, an_outcome, outcomes_dropped, outcomes_repeated),
    *(outcomes_permuted, resamples, comparisons, comparisons_of_another, seed_groups, declared_figures, provenance),
    a_report,
]
JSON = [anything_odd, anything_odd, anything_removed, a_key_renamed, a_row_twice, bare, a_key_twice]
BYTES = [cut, flipped, rewritten]
FILES = [replaced, the_entries, swapped]
