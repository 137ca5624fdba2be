"""The length-controlled win rate (arXiv 2404.04475): the win rate that outputs of equal length would have.

The official one (`official_lc_win_rate`) is the package's `length_controlled_v1`, on the official instructions against
GPT-4 Turbo's outputs; it needs the difficulty of each instruction and the verdicts on two gamed baselines, both in the
official `df_gamed.csv`. For other prompts or references, `lc_win_rate` is the package's `length_controlled_minimal`: an
L1-penalised logistic regression of the preference on a constant and tanh of the standardised length difference, with
the penalty's strength chosen by 5-fold cross-validation. Formulas and fits are the package's
(`alpaca_eval/metrics/glm_winrate.py`). `harness.benchmarks.alpaca_eval.unpenalised` has that regression without the
penalty.

All bootstraps draw from all prompts, whether a row's answer to them was scored or not, and leave out what was not
scored afterwards: so the same resample means the same prompts for every row, and rows with a few missing verdicts can
be compared with others.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.benchmarks.alpaca_eval.package import alpaca_eval_contained
from harness.stats.intervals import bootstrap_indices, percentile_interval
from harness.types import Metric

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

GLM = "length_controlled_minimal"
OFFICIAL_GLM = "length_controlled_v1"
GAMED_SHA256 = "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d"
"""Of the official df_gamed.csv."""
RESAMPLES = 1000
LEAST = 1e-9
"""The weight of an outcome that no pair has: too little to change a digit, enough to be seen."""

Lengths = Sequence[int | None]
"""Of the outputs to all prompts, in characters; None: there is none."""
Preferences = Sequence[float | None]
"""The verdicts on all prompts, in [1, 2] (2: won over the reference); None: not scored."""


class Pairs(NamedTuple):
    """Arrays over all prompts. `delta`: the reference's length minus the output's, NaN where one of them is missing.
    `won`: the preference minus 1, NaN where there is none. `answered`, `scored`: which prompts have them."""

    delta: "np.ndarray"
    won: "np.ndarray"
    answered: "np.ndarray"
    scored: "np.ndarray"

    @classmethod
    def of(cls, reference_lengths: Lengths, lengths: Lengths, preferences: Preferences) -> "Pairs":
        """From what each prompt has."""
        import numpy as np

        theirs, ours = (np.array([np.nan if x is None else x for x in row]) for row in (reference_lengths, lengths))
        delta = np.asarray(theirs - ours, dtype=float)
        won = np.array([np.nan if p is None else p - 1 for p in preferences], dtype=float)
        answered = ~np.isnan(delta)
        return cls(delta, won, answered, answered & ~np.isnan(won))


def lc_win_rate(reference_lengths: Lengths, lengths: Lengths, preferences: Preferences, *, seed: int = 0) -> Metric:
    """The rate in percent.

    The value is None for fewer scored pairs than folds; where length can't be separated from quality (`inseparable`);
    or if the penalty chosen by cross-validation leaves nothing of the regression (which then gives 50 whatever the
    verdicts; this happens with a dozen prompts, not with hundreds). It differs from the package's own figure where one
    of its folds has no win or no loss (see `_both_outcomes`). The interval and the standard error come from a
    bootstrap over prompts that refits the regression at the chosen penalty.
    """
    import numpy as np

    pairs = Pairs.of(reference_lengths, lengths, preferences)
    won, delta = pairs.won[pairs.answered], pairs.delta[pairs.answered]
    n, invalid = int(pairs.scored.sum()), int((~pairs.scored).sum())
    with alpaca_eval_contained():
        from alpaca_eval.metrics.glm_winrate import GLM_INFO

        folds = GLM_INFO[GLM]["kwargs"]["n_splits"]
        if n < folds or inseparable(pairs):
            return Metric(value=None, n=n, n_invalid=invalid)
        value, penalty = _fit(won, delta)
        if value == 50 and abs(float(pairs.won[pairs.scored].mean()) - 0.5) > 1e-9:
            return Metric(value=None, n=n, n_invalid=invalid)
        drawn = _with_scored(bootstrap_indices(len(preferences), RESAMPLES, seed), pairs.scored)
        samples = [_refit(pairs, i[pairs.answered[i]], penalty) for i in drawn]
    return Metric(
        value=value,
        stderr=float(np.std(samples, ddof=1)),
        ci95=percentile_interval(samples),
        n=n,
        n_invalid=invalid,
        resamples=tuple(samples),
    )


def official_lc_win_rate(
    places: Sequence[int],
    reference_lengths: Lengths,
    lengths: Lengths,
    preferences: Preferences,
    gamed: Path,
    *,
    seed: int = 0,
) -> tuple[Metric, float | None]:
    """(the rate in percent, by the package's own function; the package's `lc_standard_error`). `places`: indices of the
    instructions in the official order, from 0. `gamed`: a df_gamed.csv. Everything else is as in `lc_win_rate`. The
    interval and the standard error come from a bootstrap over prompts at the chosen penalty, because the package's
    `lc_standard_error` is the spread of the fitted probabilities over prompts, not that of the rate."""
    import numpy as np
    import pandas as pd

    pairs = Pairs.of(reference_lengths, lengths, preferences)
    n, invalid = int(pairs.scored.sum()), int((~pairs.scored).sum())
    answered = np.flatnonzero(pairs.answered).tolist()
    frame = pd.DataFrame(
        {
            "preference": pairs.won[answered] + 1,
            "output_1": ["x" * (reference_lengths[i] or 0) for i in answered],
            "output_2": ["x" * (lengths[i] or 0) for i in answered],
            "generator_1": "reference",
            "generator_2": "model",
        },
        index=[places[i] for i in answered],
    )
    with alpaca_eval_contained():
        from alpaca_eval.metrics import glm_winrate

        folds = glm_winrate.GLM_INFO[OFFICIAL_GLM]["kwargs"]["n_splits"]
        if n < folds or len(set(pairs.delta[answered])) == 1:
            return Metric(value=None, n=n, n_invalid=invalid), None
        with _gamed_from(gamed):
            figures = glm_winrate.get_length_controlled_winrate(
                frame, OFFICIAL_GLM, save_weights_dir=None, is_warn_extreme_changes=False
            )
            samples = _official_resamples(frame, pairs, seed)
    metric = Metric(
        value=float(figures["length_controlled_winrate"]),
        stderr=float(np.std(samples, ddof=1)),
        ci95=percentile_interval(samples),
        n=n,
        n_invalid=invalid,
        resamples=tuple(samples),
    )
    return metric, float(figures["lc_standard_error"])


@contextlib.contextmanager
def _gamed_from(path: Path) -> Iterator[None]:
    """Let the package read df_gamed.csv from a file, instead of from the hub on every call."""
    from alpaca_eval.metrics import glm_winrate

    original = glm_winrate.hf_hub_download
    glm_winrate.hf_hub_download = lambda **_: str(path)
    try:
        yield
    finally:
        glm_winrate.hf_hub_download = original


def _official_resamples(frame: "pd.DataFrame", pairs: Pairs, seed: int) -> list[float]:
    """The rate in resamples of the instructions, each refitted on arrays at the penalty chosen for the full sample.
    `frame`: the answered pairs."""
    import numpy as np
    from alpaca_eval.metrics import glm_winrate
    from sklearn.linear_model import LogisticRegression

    info = glm_winrate.GLM_INFO[OFFICIAL_GLM]
    features, test, weights = glm_winrate._get_featurized_data(
        frame, info["formula"], info["regularize_to_baseline_lambda"]
    )
    known = features["preference"].notna()
    fitted = glm_winrate.fit_LogisticRegressionCV(
        features[known], "preference", is_ytrue_proba=True, sample_weight=weights[known], **info["kwargs"]
    )
    won, design = features["preference"].to_numpy(), features.drop(columns="preference").to_numpy()
    at_no_difference, weights = test.to_numpy(), np.asarray(weights)
    regularisers = np.arange(len(design) - len(frame))  # the verdicts on the gamed baselines come first, and stay
    place = np.cumsum(pairs.answered) - 1  # of each prompt in the frame
    samples = []
    for drawn in _with_scored(bootstrap_indices(len(pairs.won), RESAMPLES, seed), pairs.scored):
        rows = np.concatenate([regularisers, len(regularisers) + place[drawn[pairs.scored[drawn]]]])
        model = LogisticRegression(
            C=float(fitted.C_[0]), random_state=123, penalty="l1", solver="liblinear", fit_intercept=False
        )
        labels = np.repeat([1, 0], len(rows))
        mass = np.concatenate([won[rows] * weights[rows], (1 - won[rows]) * weights[rows]])
        model.fit(np.vstack([design[rows], design[rows]]), labels, sample_weight=mass)
        asked = at_no_difference[place[drawn[pairs.answered[drawn]]]]
        samples.append(float(100 * model.predict_proba(asked)[:, 1].mean()))
    return samples


def _with_scored(drawn: "np.ndarray", scored: "np.ndarray") -> "np.ndarray":
    """Resamples [resamples, prompts]; for one without any scored prompt the whole sample stands."""
    import numpy as np

    return np.where(scored[drawn].any(axis=1)[:, None], drawn, np.arange(len(scored)))


def _standardised(delta: "np.ndarray") -> "np.ndarray":
    """Length differences divided by their sample standard deviation, as in the package; all zeros stay zeros."""
    spread = float(delta.std(ddof=1)) if len(delta) > 1 else 0.0
    return delta / spread if spread > 0 else delta * 0


def inseparable(pairs: Pairs) -> bool:
    """Whether all pairs have one length difference that is not zero, or differences so alike, far from zero, that the
    regression can't tell them apart: its tanh is one number. Then length can't be told from quality."""
    import numpy as np

    features = np.tanh(_standardised(pairs.delta[pairs.answered]))[pairs.scored[pairs.answered]]
    return bool(pairs.delta[pairs.scored].any()) and (not len(features) or float(np.ptp(features)) < 1e-9)


def _both_outcomes(won: "np.ndarray") -> "np.ndarray":
    """The preferences, at least LEAST from 0 and 1. Of losses alone, also in one fold, liblinear would give the
    coefficients of wins alone: its sign follows the first label that has a weight."""
    import numpy as np

    return np.asarray(np.clip(won, LEAST, 1 - LEAST))


def _fit(won: "np.ndarray", delta: "np.ndarray") -> tuple[float, float]:
    """(the win rate at no length difference, in percent; the penalty's C chosen by cross-validation)."""
    import pandas as pd
    from alpaca_eval.metrics.glm_winrate import GLM_INFO, fit_LogisticRegressionCV, make_dmatrix_for_model

    # Standardised over all pairs, scored or not, as the package does; only scored ones are fitted.
    train = pd.DataFrame(
        {"preference": _both_outcomes(won), "std_delta_len": _standardised(delta), "not_gamed_baseline": True}
    )
    info = GLM_INFO[GLM]
    design, at_no_difference = make_dmatrix_for_model(train, train.assign(std_delta_len=0), formula=info["formula"])
    model = fit_LogisticRegressionCV(
        design[design["preference"].notna()], "preference", is_ytrue_proba=True, **info["kwargs"]
    )
    return float(model.predict_proba(at_no_difference)[:, 1].mean() * 100), float(model.C_[0])


def _refit(pairs: Pairs, drawn: "np.ndarray", penalty: float) -> float:
    """The win rate by the same regression at a fixed C, on arrays: with the package's data frames, a bootstrap would
    take minutes. `drawn`: the answered prompts of a resample."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    scored = pairs.scored[drawn]
    delta, won = _standardised(pairs.delta[drawn])[scored], pairs.won[drawn][scored]
    features = np.column_stack([np.ones_like(delta), np.tanh(delta)])
    model = LogisticRegression(C=penalty, random_state=123, penalty="l1", solver="liblinear", fit_intercept=False)
    # A preference p is a win of weight p and a loss of weight 1 - p.
    labels = np.repeat([1, 0], len(won))
    won = _both_outcomes(won)
    model.fit(np.vstack([features, features]), labels, sample_weight=np.concatenate([won, 1 - won]))
    return float(100 / (1 + np.exp(-model.coef_[0][0])))
