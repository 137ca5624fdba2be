"""The recipe: read from YAML, checked once, and then passed around as frozen objects.

`recipe`, `data` and `training` define its sections. `load` reads and checks it, `problems` words a mistake with file,
line and field, `sweep` expands one recipe into many, `arms` lists its trainings, `sizes` estimates counts.

    from harness.recipe.load import load_recipe

    load_recipe(Path("recipes/quickstart.yaml"), ["seed=1"]).methods[0].loss.beta
"""
