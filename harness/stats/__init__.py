"""Figures with their uncertainty: intervals, paired comparisons, agreement. Pure functions; no torch.

`intervals` computes means and proportions with intervals, `paired` compares rows prompt by prompt, `noninferiority` is
the gate's test, `bradley_terry` rates rows, `agreement` computes kappa, alpha and tau.

    >>> from harness.stats.intervals import mean_metric
    >>> metric = mean_metric([1.0, 0.0, 1.0, 1.0, None], scale=100)
    >>> metric.value, metric.n, metric.n_invalid
    (75.0, 4, 1)
"""
