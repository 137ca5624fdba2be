"""The stages of a run, one per file. In the order of the data flow:

    seeds -> prompts -> responses -> reward -> ranked -> (agreement, report, dataset)
    -> reference, sft -> train -> heldout -> answers -> verdicts

Each file has a function that takes the sections of the recipe it needs, and the stages before it, and returns a
`harness.engine.stage.Stage`: a name, parameters, inputs, and a body that fills a folder. `harness.pipeline.plan` puts
them together; `_metrics` has what `heldout` and `verdicts` write alike, and `data_report` makes the report on how
varied the data is.

    seeds_stage(recipe.data, leak_search(recipe.data, recipe.evaluation), recipe.seed).key   # changes with its result
"""
