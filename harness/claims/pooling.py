"""One difference out of many pairs of rows: means over prompts, crossed with the seeds where there are several."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from harness.boards.entry import Entry, measured_by
from harness.boards.outcomes import able_rows, figure_values, has_resamples, strata_of
from harness.claims.cells import RUN_SEED, TRAINING_SEED, RowPair
from harness.figures import HELDOUT, Figure
from harness.stats.bounds import Mean, mean_of
from harness.stats.crossed import Crossed, crossed, crossed_resamples, mean_of_resamples
from harness.stats.paired import per_prompt, prompt_of


class Pooled(NamedTuple):
    """An estimate and the pairs of rows that it is made of. `estimate`: with one seed a mean over prompts, else crossed
    over seeds and prompts."""

    estimate: Mean | Crossed
    pairs: tuple[tuple[Entry, Entry], ...]


def pooled(figure: Figure, pairs: Sequence[RowPair]) -> Pooled | None:
    """The difference over these pairs, averaged prompt by prompt over the pairs of a seed; None where they have no
    shared outcomes."""
    usable = [pair for pair in pairs if _are_comparable(figure, pair)]
    by_seed: dict[str | None, list[RowPair]] = {}
    unit = _unit(usable)
    for pair in usable:
        by_seed.setdefault(dict(pair[0]).get(unit), []).append(pair)
    resampled = figure.pairing is not None and figure.pairing.kind == "resamples"
    return _of_resamples(figure, by_seed) if resampled else _of_means(figure, by_seed)


def _unit(pairs: Sequence[RowPair]) -> str:
    """The seeds that are independent: those of whole runs where there are several, for trainings of one run share its
    data; else the training seeds."""
    runs = {label for settings, *_ in pairs for axis, label in settings if axis == RUN_SEED}
    return RUN_SEED if len(runs) > 1 else TRAINING_SEED


def _are_comparable(figure: Figure, pair: RowPair) -> bool:
    """Whether both rows have the figure, measured in the same way."""
    _, one, other = pair
    if len(able_rows([one, other], figure)) < 2:
        return False
    # In a sweep over policies or judges, figures by another judge or against other answers are not comparable.
    return figure.benchmark == HELDOUT or measured_by(one) == measured_by(other)


BySeed = dict[str | None, list[RowPair]]


def _of_means(figure: Figure, by_seed: BySeed) -> Pooled | None:
    """For a mean over prompts; None where the seeds don't share two prompts."""
    differences: list[dict[str, float]] = []
    used: list[tuple[Entry, Entry]] = []
    for pairs in by_seed.values():
        of_seed: dict[str, list[float]] = {}
        for _, one, other in pairs:
            first, second = figure_values(one, figure), figure_values(other, figure)
            shared = {k: x - y for k, x in first.items() if x is not None and (y := second.get(k)) is not None}
            used += [(one, other)] if shared else []
            for key, difference in shared.items():
                of_seed.setdefault(key, []).append(difference)
        if of_seed:
            differences.append({key: sum(values) / len(values) for key, values in of_seed.items()})
    if len(differences) > 1 and sum(map(len, differences)) == len(set().union(*differences)):
        return _nested(differences, figure, used)
    keys = sorted(set.intersection(*(set(of_seed) for of_seed in differences))) if differences else []
    prompts = list(dict.fromkeys(map(prompt_of, keys)))
    if len(prompts) < 2:
        return None
    rows = [per_prompt(of_seed, keys) for of_seed in differences]
    all_rows = [row for pairs in by_seed.values() for pair in pairs for row in pair[1:]]
    categories = strata_of(all_rows, figure)
    strata = None if categories is None else [categories.get(prompt, "") for prompt in prompts]
    if len(rows) == 1:
        return Pooled(mean_of(rows[0], figure.reach, 0.0, strata), tuple(used))
    return Pooled(crossed(rows, figure.reach, strata), tuple(used))


def _nested(
    differences: Sequence[dict[str, float]], figure: Figure, used: Sequence[tuple[Entry, Entry]]
) -> Pooled | None:
    """For seeds with prompts of their own, such as held-out pairs of a sweep over seeds: all that prompts add is then
    seen in the seeds' means too. The seeds count alike."""
    rows = [per_prompt(of_seed, sorted(of_seed)) for of_seed in differences]
    if min(map(len, rows)) < 2:
        return None
    n, by_seed = sum(map(len, rows)), tuple(map(fmean, rows))
    weighted = [x * n / (len(rows) * len(row)) for row in rows for x in row]
    reach = None if figure.reach is None else figure.reach * n / (len(rows) * min(map(len, rows)))
    mean = mean_of(weighted, reach)
    within = sum(mean_of(row, figure.reach).stderr ** 2 for row in rows) / len(rows) ** 2
    return Pooled(Crossed(by_seed, mean._replace(stderr=within**0.5), within), tuple(used))


def _of_resamples(figure: Figure, by_seed: BySeed) -> Pooled | None:
    """`_of_means` for a figure that is not a mean over prompts: the mean over the pairs, also in each resample."""
    complete = {
        seed: kept
        for seed, pairs in by_seed.items()
        if (kept := [pair for pair in pairs if _share_resamples(figure, pair[1], pair[2])])
    }
    pairs = [pair for kept in complete.values() for pair in kept]
    if not pairs or len({len(row.resamples[figure.metric]) for pair in pairs for row in pair[1:]}) > 1:
        return None
    prompts = _scored_by_all(figure, pairs)
    if prompts < 2:
        return None
    values = [
        fmean(_value(one, figure) - _value(other, figure) for _, one, other in kept) for kept in complete.values()
    ]
    resamples = [_mean_resamples(figure, kept) for kept in complete.values()]
    reach = figure.reach or 0.0
    used = tuple(pair[1:] for pair in pairs)
    if len(values) == 1:
        return Pooled(mean_of_resamples(values[0], resamples[0], prompts, reach), used)
    return Pooled(crossed_resamples(values, resamples, prompts, reach), used)


def _scored_by_all(figure: Figure, pairs: Sequence[RowPair]) -> int:
    """Prompts that are scored in every row."""
    rows = [row.outcomes[figure.benchmark] for pair in pairs for row in pair[1:]]
    shared = set.intersection(*({key for key, value in row.items() if value is not None} for row in rows))
    return len(set(map(prompt_of, shared)))


def _share_resamples(figure: Figure, one: Entry, other: Entry) -> bool:
    both = has_resamples(one, figure) and has_resamples(other, figure)
    return both and one.outcomes[figure.benchmark].keys() == other.outcomes[figure.benchmark].keys()


def _value(row: Entry, figure: Figure) -> float:
    return float(row.metrics[figure.metric].value or 0.0)


def _mean_resamples(figure: Figure, pairs: Sequence[RowPair]) -> list[float]:
    """The mean difference over the pairs, in each resample."""
    differences = [
        [x - y for x, y in zip(one.resamples[figure.metric], other.resamples[figure.metric], strict=True)]
        for _, one, other in pairs
    ]
    return [fmean(column) for column in zip(*differences, strict=True)]
