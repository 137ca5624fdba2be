"""From a recipe to a plan, and from a plan's results to the rows of a board.

`plan` derives the stages of one recipe without running anything, and `study` those of all cells of a sweep.
`estimates` computes their costs, `plan_view` draws them, and `detect` says which designs show a difference. `run` does
a whole run: `progress` shows it, `run_log` logs it, `board` checks and writes its board: `entries` builds the rows,
`guards` flags doubtful answers, `public_data` writes the public formats.

    from harness.pipeline.plan import make_plan
    from harness.recipe.load import load_recipe

    [stage.id for stage in make_plan(load_recipe(Path("recipes/quickstart.yaml"))).stages]
"""
