"""Agreement of two rankings or several raters: Kendall's tau-b, Cohen's kappa, Krippendorff's alpha."""

import math
from collections.abc import Hashable, Sequence


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b (corrected for ties) between two rankings; None if one is constant or they are too short."""
    from scipy.stats import kendalltau

    if len(first) < 2:
        return None
    tau = float(kendalltau(first, second).statistic)
    return None if math.isnan(tau) else tau


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa (1960) of two raters' categories, item by item: agreement beyond chance, given each rater's
    category frequencies. None if both always chose the same category, or there are no items."""
    from collections import Counter

    n = len(pairs)
    first_counts, second_counts = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    by_chance = sum(count * second_counts[category] for category, count in first_counts.items())
    if by_chance == n * n:
        return None
    return (n * sum(a == b for a, b in pairs) - by_chance) / (n * n - by_chance)


def krippendorff_alpha(items: Sequence[Sequence[float | None]]) -> float | None:
    """Krippendorff's alpha (2011) for interval data. `items`: for each item, one value per rater, None if missing. 1 is
    perfect agreement, 0 is chance level. None if no item has two ratings, or all values are equal."""
    rated = [[v for v in item if v is not None] for item in items]
    units = [unit for unit in rated if len(unit) > 1]
    values = [v for unit in units for v in unit]
    expected = _squared_differences(values) / (len(values) - 1) if values else 0.0
    if expected == 0:
        return None
    return 1 - sum(_squared_differences(unit) / (len(unit) - 1) for unit in units) / expected


def _squared_differences(values: Sequence[float]) -> float:
    """The sum over all ordered pairs of (a - b)²."""
    mean = math.fsum(values) / len(values)
    return 2 * len(values) * math.fsum((v - mean) ** 2 for v in values)
