"""What leaves the house: a row's trained model as a folder that others load, with a card, and the links to checkpoints.

`links` names each row's checkpoint in the board's folder, `row` finds a row's training in a store, `base` says what its
base model is called on the hub, `weights` writes the adapter or the merged model, `card` and `usage` its README, and
`model` does all of that for one row.

    export_model(Path("leaderboards/quickstart"), "multi-dpo", Path("multi-dpo"), merge=True)
"""
