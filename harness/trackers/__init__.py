"""Experiment trackers: one run for each training, with its curves while it trains and its board figures at the end.

`tracked` says what a run is, `curves` opens it with every tracker of the recipe, and the `to_*` files each speak to one
tracker, through transformers' own callback where that does what is needed. A tracker never decides about a training: it
may fail, and the training goes on.

    with tracking(run):               # the pipeline, around a stage
        with curves() as callbacks:   # the trainer
            ...
"""
