"""The length-controlled win rate (arXiv 2404.04475): the win rate that outputs of equal length would have.

The official one (`official_lc_win_rate`) is the package's `length_controlled_v1`, on the official instructions against
GPT-4 Turbo's outputs; it needs the difficulty of each instruction and the verdicts on two gamed baselines, both in the
official `df_gamed.csv`. For other prompts or references, `lc_win_rate` is the package's `length_controlled_minimal`: an
L1-penalised logistic regression of the preference on a constant and tanh of the standardised length difference, with
the penalty's strength chosen by 5-fold cross-validation. Formulas and fits are the package's
(`alpaca_eval/metrics/glm_winrate.py`).
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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


def lc_win_rate(
    reference_lengths: Sequence[int], lengths: Sequence[int], preferences: Sequence[float | None], *, seed: int = 0
) -> Metric:
    """The rate in percent. Lengths in characters; preferences in [1, 2] (2: won over the reference), None: not scored.

    The value is None for fewer scored pairs than folds; if all length differences are equal and not zero, so that
    length can't be separated from quality; or if the penalty chosen by cross-validation leaves nothing of the
    regression (which then gives 50 whatever the verdicts; this happens with a dozen prompts, not with hundreds). The
    interval and the standard error come from a bootstrap over prompts that refits the regression at the chosen penalty.
    """
    import numpy as np

    won = np.array([np.nan if p is None else p - 1 for p in preferences], dtype=float)
    delta = np.array(reference_lengths, dtype=float) - np.array(lengths, dtype=float)
    scored = ~np.isnan(won)
    n, invalid = int(scored.sum()), int((~scored).sum())
    with alpaca_eval_contained():
        from alpaca_eval.metrics.glm_winrate import GLM_INFO

        folds = GLM_INFO[GLM]["kwargs"]["n_splits"]
        if n < folds or (len(set(delta)) == 1 and delta[0] != 0):
            return Metric(value=None, n=n, n_invalid=invalid)
        value, penalty = _fit(won, delta)
        if value == 50 and abs(float(won[scored].mean()) - 0.5) > 1e-9:
            return Metric(value=None, n=n, n_invalid=invalid)
        resamples = bootstrap_indices(n, RESAMPLES, seed)
        samples = [_refit(won[scored][i], delta[scored][i], penalty) for i in resamples]
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
    reference_lengths: Sequence[int],
    lengths: Sequence[int],
    preferences: Sequence[float | None],
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

    frame = pd.DataFrame(
        {
            "preference": [np.nan if p is None else p for p in preferences],
            "output_1": ["x" * length for length in reference_lengths],
            "output_2": ["x" * length for length in lengths],
            "generator_1": "reference",
            "generator_2": "model",
        },
        index=list(places),
    )
    scored = frame["preference"].notna()
    n, invalid = int(scored.sum()), int((~scored).sum())
    with alpaca_eval_contained():
        from alpaca_eval.metrics import glm_winrate

        folds = glm_winrate.GLM_INFO[OFFICIAL_GLM]["kwargs"]["n_splits"]
        if n < folds or frame["output_1"].str.len().sub(frame["output_2"].str.len()).nunique() == 1:
            return Metric(value=None, n=n, n_invalid=invalid), None
        with _gamed_from(gamed):
            figures = glm_winrate.get_length_controlled_winrate(
                frame, OFFICIAL_GLM, save_weights_dir=None, is_warn_extreme_changes=False
            )
            samples = _official_resamples(frame[scored], seed)
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


def _official_resamples(frame: "pd.DataFrame", seed: int) -> list[float]:
    """The rate in resamples of the instructions, each refitted on arrays at the penalty chosen for the full sample."""
    import numpy as np
    from alpaca_eval.metrics import glm_winrate
    from sklearn.linear_model import LogisticRegression

    info = glm_winrate.GLM_INFO[OFFICIAL_GLM]
    features, test, weights = glm_winrate._get_featurized_data(
        frame, info["formula"], info["regularize_to_baseline_lambda"]
    )
    fitted = glm_winrate.fit_LogisticRegressionCV(
        features, "preference", is_ytrue_proba=True, sample_weight=weights, **info["kwargs"]
    )
    n = len(frame)
    won, design, at_no_difference = features["preference"].to_numpy(), features.drop(columns="preference"), test
    design, weights = design.to_numpy(), np.asarray(weights)
    regularisers = np.arange(len(design) - n)  # the verdicts on the gamed baselines come first, and stay
    samples = []
    for drawn in bootstrap_indices(n, RESAMPLES, seed):
        rows = np.concatenate([regularisers, len(regularisers) + drawn])
        model = LogisticRegression(
            C=float(fitted.C_[0]), random_state=123, penalty="l1", solver="liblinear", fit_intercept=False
        )
        labels = np.repeat([1, 0], len(rows))
        mass = np.concatenate([won[rows] * weights[rows], (1 - won[rows]) * weights[rows]])
        model.fit(np.vstack([design[rows], design[rows]]), labels, sample_weight=mass)
        samples.append(float(100 * model.predict_proba(at_no_difference.to_numpy()[drawn])[:, 1].mean()))
    return samples


def _standardised(delta: "np.ndarray") -> "np.ndarray":
    """Length differences divided by their sample standard deviation, as in the package; all zeros stay zeros."""
    spread = float(delta.std(ddof=1))
    return delta / spread if spread > 0 else delta * 0


def _fit(won: "np.ndarray", delta: "np.ndarray") -> tuple[float, float]:
    """(the win rate at no length difference, in percent; the penalty's C chosen by cross-validation)."""
    import pandas as pd
    from alpaca_eval.metrics.glm_winrate import GLM_INFO, fit_LogisticRegressionCV, make_dmatrix_for_model

    # Standardised over all pairs, scored or not, as the package does; only scored ones are fitted.
    train = pd.DataFrame({"preference": won, "std_delta_len": _standardised(delta), "not_gamed_baseline": True})
    info = GLM_INFO[GLM]
    design, at_no_difference = make_dmatrix_for_model(train, train.assign(std_delta_len=0), formula=info["formula"])
    model = fit_LogisticRegressionCV(
        design[design["preference"].notna()], "preference", is_ytrue_proba=True, **info["kwargs"]
    )
    return float(model.predict_proba(at_no_difference)[:, 1].mean() * 100), float(model.C_[0])


def _refit(won: "np.ndarray", delta: "np.ndarray", penalty: float) -> float:
    """The win rate by the same regression at a fixed C, on arrays: with the package's data frames, a bootstrap would
    take minutes."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    features = np.column_stack([np.ones_like(delta), np.tanh(_standardised(delta))])
    model = LogisticRegression(C=penalty, random_state=123, penalty="l1", solver="liblinear", fit_intercept=False)
    # A preference p is a win of weight p and a loss of weight 1 - p.
    labels = np.repeat([1, 0], len(won))
    model.fit(np.vstack([features, features]), labels, sample_weight=np.concatenate([won, 1 - won]))
    return float(100 / (1 + np.exp(-model.coef_[0][0])))
