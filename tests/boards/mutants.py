"""Boards that were spoilt or forged on the way: one change to one of a board's files, drawn at random."""

import random
from pathlib import Path
from typing import Any

from tests.boards.spoilt_files import BYTES, FILES, JSON, ODD, edited


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


# --- figures and outcomes


def _row(data: Any, rng: random.Random) -> Any:
    """An entry, or one of the rows of a board.json."""
    return rng.choice(data["rows"]) if "rows" in data else _entry(data)


@edited
def a_figure_by_much(data: Any, rng: random.Random) -> str:
    name, metric = rng.choice(sorted(_row(data, rng)["metrics"].items()))
    metric["value"] = rng.choice([99.9, -3.0, 7.0, 0.0, (metric["value"] or 0) * 2 + 5])
    return f"{name} {metric['value']}"


@edited
def a_figure_by_little(data: Any, rng: random.Random) -> str:
    name, metric = rng.choice(sorted(_row(data, rng)["metrics"].items()))
    field = rng.choice(["value", "stderr"])
    metric[field] = (metric[field] or 0.0) + rng.choice([-1, 1]) * rng.uniform(0.06, 0.6)
    return f"{name}.{field} {metric[field]}"


@edited
def an_interval(data: Any, rng: random.Random) -> str:
    name, metric = rng.choice(sorted(_row(data, rng)["metrics"].items()))
    low, high = metric["ci95"]
    metric["ci95"] = rng.choice([[99.0, 100.0], [low + 30, high + 30], [high, low], [low, low], [low], [low, high, 9]])
    return f"{name} {metric['ci95']}"


@edited
def a_count(data: Any, rng: random.Random) -> str:
    name, metric = rng.choice(sorted(_row(data, rng)["metrics"].items()))
    field = rng.choice(["n", "n_invalid"])
    metric[field] = rng.choice([metric[field] + 1, metric[field] * 100 + 805, -1, 2.5, 10**30, "10"])
    return f"{name}.{field} {metric[field]}"


@edited
def an_outcome(data: Any, rng: random.Random) -> str:
    group, outcomes = rng.choice(sorted(_entry(data)["outcomes"].items()))
    key = rng.choice(sorted(outcomes))
    outcomes[key] = rng.choice([7, 99, -1, 1e12, 1e308, 1.9, 1.0, 3.0, None, "1.5", True, [1.5]])
    return f"{group}.{key} {outcomes[key]!r}"


@edited
def outcomes_dropped(data: Any, rng: random.Random) -> str:
    every = _entry(data)["outcomes"]
    group = rng.choice(sorted(every))
    if rng.random() < 0.4:
        del every[group]
        return f"{group}, all"
    for key in rng.sample(sorted(every[group]), k=rng.randint(1, len(every[group]))):
        del every[group][key]
    return f"{group}, to {len(every[group])}"


@edited
def outcomes_repeated(data: Any, rng: random.Random) -> str:
    group, outcomes = rng.choice(sorted(_entry(data)["outcomes"].items()))
    for key in rng.sample(sorted(outcomes), k=3):
        outcomes[key + rng.choice(["#2", "/2", "-again"])] = outcomes[key]
    return group


@edited
def outcomes_permuted(data: Any, rng: random.Random) -> str:
    group, outcomes = rng.choice(sorted(_entry(data)["outcomes"].items()))
    values = list(outcomes.values())
    rng.shuffle(values)
    outcomes.update(zip(list(outcomes), values, strict=True))
    return group


@edited
def resamples(data: Any, rng: random.Random) -> str:
    every = _entry(data)["resamples"]
    name = rng.choice(sorted(every) or ["alpaca_eval.lc_win_rate"])
    every[name] = rng.choice([[], [99.9] * 50, [x + 20 for x in every.get(name, [1.0])], [1e300, 1.0], ["a"]])
    return name


@edited
def strata(data: Any, rng: random.Random) -> str:
    every = _entry(data)["strata"]
    name = rng.choice(sorted(every) or ["mt_bench"])
    labels = dict(every.get(name, {"q1": "math", "1": "writing"}))
    shuffled = list(labels.values())
    rng.shuffle(shuffled)
    every[name] = rng.choice(
        [{}, dict(zip(labels, shuffled, strict=True)), dict.fromkeys(labels, "math"), {"x": 1}, []]
    )
    return name


@edited
def comparisons(data: Any, rng: random.Random) -> str:
    metric, pairs = rng.choice(sorted(data["comparisons"].items()))
    pair = rng.choice(pairs)
    field = rng.choice(sorted(set(pair) - {"ci95"}))
    pair[field] = rng.choice([0.0001, 99.9, -40.0, 0, "base", -1])
    return f"{metric}.{field} {pair[field]}"


@edited
def comparisons_of_another(data: Any, rng: random.Random) -> str:
    metrics = data["comparisons"]
    one, other = rng.sample(sorted(metrics), k=2)
    metrics[one] = metrics[other]
    return f"{one} has those of {other}"


@edited
def seed_groups(data: Any, rng: random.Random) -> str:
    group = rng.choice(data["training_seeds"])
    spread = rng.choice(list(group["metrics"].values()))
    spread["mean"] = 99.9
    return "99.9"


@edited
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


@edited
def a_report(data: Any, rng: random.Random) -> str:
    about = _row(data, rng)["provenance"]
    stage = rng.choice(sorted(about["data"]))
    report = about["data"][stage]
    field = rng.choice([*sorted(report), "tokens", "leaks", "admission", "pairs", "heldout_accuracy", "growth_with_n"])
    report[field] = rng.choice(ODD)
    return f"{stage}.{field} {str(report[field])[:40]!r}"


@edited
def provenance(data: Any, rng: random.Random) -> str:
    about = _row(data, rng)["provenance"]
    more = ["method_id", "training_seed", "match_to", "loss", "sft", "sweep", "public", "judging", "references"]
    field = rng.choice([*sorted(about), *more])
    about[field] = rng.choice(ODD)
    return f"{field} {str(about[field])[:40]!r}"


FIGURES = [
    *(a_figure_by_much, a_figure_by_little, an_interval, a_count, an_outcome, outcomes_dropped, outcomes_repeated),
    *(
        outcomes_permuted,
        resamples,
        strata,
        comparisons,
        comparisons_of_another,
        seed_groups,
        declared_figures,
        provenance,
    ),
    a_report,
]
