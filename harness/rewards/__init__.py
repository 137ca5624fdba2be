"""Reward models: one per file, a subclass of `harness.protocols.RewardModel`.

Higher is better, and only differences between responses to one prompt mean anything. Each model is tested on held-out
pairs before its scores are used. `_scales` puts the scores of several models on one scale.

    >>> from harness.components import build
    >>> [part.name for part in build("reward", {"name": "noisy", "reward": {"name": "length"}, "flip": 0.2}).parts]
    ['length']
"""
