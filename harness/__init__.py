"""From one recipe: augment a seed preference set, train on it, judge every checkpoint, write the leaderboard.

    import harness

    run = harness.run("recipes/quickstart.yaml")
    run.rows["multi-dpo"].metrics["alpaca_eval.win_rate"]

The names below are described in `harness.api`, which is imported when one of them is first used.
"""

__version__ = "0.1.0"
__all__ = [
    "HarnessError",
    "PlannedStage",
    "Run",
    "RunPlan",
    "__version__",
    "export_model",
    "gate",
    "load_board",
    "plan",
    "run",
]

TYPE_CHECKING = False  # as type checkers know it; importing `typing` would take longer than the rest of this file
if TYPE_CHECKING:
    from harness.api import HarnessError, PlannedStage, Run, RunPlan, export_model, gate, load_board, plan, run
else:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from harness import api

        # `gate` is bound by now: to the package harness.gate, which can be called.
        return globals().setdefault(name, vars(api)[name])

    def __dir__():
        return sorted({*globals(), *__all__})
