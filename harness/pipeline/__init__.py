"""From a recipe to a plan, from a plan's results to the rows of a board.

`plan` lists the stages of one recipe without running anything, `study` those of all cells of a sweep, `estimates` what
they cost, `plan_view` draws that. `run` is a whole run: `progress` shows it, `run_log` logs it, `entries` makes the
board's rows, `guards` flags doubtful answers, `public_data` writes the public formats.

    from harness.pipeline.plan import make_plan
    from harness.recipe.load import load_recipe

    [stage.id for stage in make_plan(load_recipe(Path("recipes/quickstart.yaml"))).stages]
"""
