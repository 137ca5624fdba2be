"""The figures that a recipe may name."""

from typing import Literal

GateMetric = Literal[
    "alpaca_eval.win_rate",
    "alpaca_eval.discrete_win_rate",
    "alpaca_eval.lc_win_rate",
    "mt_bench.score",
    "mt_bench.win_rate",
    "mt_bench.turn_1",
    "mt_bench.turn_2",
    "heldout.pair_accuracy",
    "heldout.margin",
]
"""What gates compare: figures that are means over prompts, and the length-controlled rate."""
