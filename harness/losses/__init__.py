"""Preference losses over N ranked responses: one per file, a subclass of `harness.losses._base.PreferenceLoss`.

A loss is a pure function of log-probabilities, scores and a mask. `_base` defines the shared options (`beta`,
`tie_margin`, ...), `_tensors` the shared tensor operations.

    >>> from harness.components import build, loss_class
    >>> build("loss", {"name": "dpo_best_worst", "beta": 0.5}).length_norm
    False
    >>> loss_class("simpo_pairs").on_pairs
    True
"""
