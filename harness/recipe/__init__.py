"""The recipe: read from YAML, checked once, and then passed around as frozen objects.

`recipe`, `policy`, `data`, `training` and `evaluation` define its sections. `load` reads it, `checks` looks at what it
names, `reading` words a mistake with file, line and field, `sweep` makes many of one, `arms` lists the trainings.

    from harness.recipe.load import load_recipe

    load_recipe(Path("recipes/quickstart.yaml"), ["seed=1"]).methods[0].loss.beta
"""
