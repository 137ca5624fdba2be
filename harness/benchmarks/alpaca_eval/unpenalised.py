"""The length-controlled win rate of `length_controlled_minimal`'s regression without its penalty.

The package's minimal fit has an L1 penalty whose strength is chosen by cross-validation. Where a row wins about half of
its prompts, as against the policy that it was trained from, that penalty often removes the constant, and with it the
rate. Here the same regression, a constant and tanh of the standardised length difference, is fitted by maximum
likelihood. A ridge of RIDGE keeps it finite where lengths tell wins from losses without an error, or there are only
wins; else it changes no digit that a board shows.
"""

from typing import TYPE_CHECKING

from harness.benchmarks.alpaca_eval.length_control import RESAMPLES, Lengths, Pairs, Preferences, inseparable
from harness.stats.intervals import bootstrap_indices, few, interval_of_few_resamples, percentile_interval
from harness.types import Metric

if TYPE_CHECKING:
    import numpy as np

RIDGE = 1e-6
"""Half of it times the squared coefficients is added to the negative log-likelihood of all prompts."""
MOST_STEPS = 200
AT_ONCE = 100
"""Resamples that are fitted at once: more do not fit a processor's cache."""
PERCENT = (0.0, 100.0)
"""The limits of a rate."""


def lc_unpenalised(reference_lengths: Lengths, lengths: Lengths, preferences: Preferences, *, seed: int = 0) -> Metric:
    """The rate in percent; arguments as in `harness.benchmarks.alpaca_eval.length_control.lc_win_rate`.

    The value is None without a scored pair, and where length can't be told from quality (`inseparable`). Standard error
    and interval come from the same bootstrap over prompts as those of the penalised rate, with the regression fitted
    anew in each resample. Where verdicts are too few for a bootstrap, the interval is that of
    `interval_of_few_resamples`."""
    import numpy as np

    pairs = Pairs.of(reference_lengths, lengths, preferences)
    n, invalid = int(pairs.scored.sum()), int((~pairs.scored).sum())
    if n == 0 or inseparable(pairs):
        return Metric(value=None, n=n, n_invalid=invalid)
    everything = np.ones((1, len(preferences)))
    value = float(_rates(pairs, everything)[0])
    if n == 1:
        return Metric(value=value, n=n, n_invalid=invalid)
    drawn = bootstrap_indices(len(preferences), RESAMPLES, seed)
    counts = np.array([np.bincount(row, minlength=len(preferences)) for row in drawn], dtype=float)
    # A resample without a scored pair says nothing: the whole sample stands for it.
    counts[counts[:, pairs.scored].sum(axis=1) == 0] = 1.0
    samples = np.concatenate([_rates(pairs, counts[i : i + AT_ONCE]) for i in range(0, len(counts), AT_ONCE)]).tolist()
    is_few = few((100 * pairs.won[pairs.scored]).tolist(), PERCENT)
    return Metric(
        value=value,
        stderr=float(np.std(samples, ddof=1)),
        ci95=interval_of_few_resamples(value, samples, n, PERCENT) if is_few else percentile_interval(samples),
        n=n,
        n_invalid=invalid,
        resamples=tuple(samples),
    )


def _rates(pairs: Pairs, counts: "np.ndarray") -> "np.ndarray":
    """The rate in percent in each resample; `counts`: how often each prompt is in it, [resamples, prompts]."""
    import numpy as np

    answered, scored = pairs.answered, pairs.scored
    delta, times = pairs.delta[answered], counts[:, answered]
    # Standardised within each resample over all its pairs, scored or not, as the package does.
    size = times.sum(axis=1)
    mean = times @ delta / size
    away = delta[None, :] - mean[:, None]
    squares = (times * away * away).sum(axis=1)
    spread = np.sqrt(squares / np.maximum(size - 1, 1))
    is_spread = spread > 1e-9 * np.abs(delta).max(initial=1.0)
    scale = np.where(is_spread, 1 / np.where(is_spread, spread, 1.0), 0.0)
    features = np.tanh(pairs.delta[scored][None, :] * scale[:, None])
    constant = _fitted(pairs.won[scored], features, counts[:, scored])[:, 0]
    return np.asarray(100 / (1 + np.exp(-constant)))


def _fitted(won: "np.ndarray", features: "np.ndarray", weights: "np.ndarray") -> "np.ndarray":
    """(constant, slope) of the weighted logistic regression of `won` on each row of features: [rows, 2]. Newton's
    method; a step that makes the fit worse is halved."""
    import numpy as np

    coefficients = np.zeros((len(features), 2))
    active = np.arange(len(features))
    for _ in range(MOST_STEPS):
        x, w, at = features[active], weights[active], coefficients[active]
        p = 0.5 * (1 + np.tanh(0.5 * (at[:, :1] + at[:, 1:] * x)))
        residual, variance = w * (p - won), w * p * (1 - p)
        gradient = np.stack([residual.sum(axis=1), (residual * x).sum(axis=1)], axis=1) + RIDGE * at
        h00, h01, h11 = (v.sum(axis=1) for v in (variance, variance * x, variance * x * x))
        h00, h11 = h00 + RIDGE, h11 + RIDGE
        step = np.stack(
            [h11 * gradient[:, 0] - h01 * gradient[:, 1], h00 * gradient[:, 1] - h01 * gradient[:, 0]], axis=1
        )
        step /= (h00 * h11 - h01 * h01)[:, None]
        before = _loss(at, won, x, w)
        size = np.ones(len(active))
        for _ in range(40):
            is_worse = _loss(at - size[:, None] * step, won, x, w) > before + 1e-10 * (1 + before)
            if not is_worse.any():
                break
            size = np.where(is_worse, 0.5 * size, size)
        coefficients[active] = at - size[:, None] * step
        active = active[np.abs(gradient * step).sum(axis=1) > 1e-12]
        if not len(active):
            break
    return coefficients


def _loss(coefficients: "np.ndarray", won: "np.ndarray", x: "np.ndarray", weights: "np.ndarray") -> "np.ndarray":
    """The negative log-likelihood with the ridge, of each row."""
    import numpy as np

    eta = coefficients[:, :1] + coefficients[:, 1:] * x
    entropy = np.maximum(eta, 0) + np.log1p(np.exp(-np.abs(eta))) - won * eta
    return np.asarray((weights * entropy).sum(axis=1) + 0.5 * RIDGE * (coefficients**2).sum(axis=1))
