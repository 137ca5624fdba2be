"""What a board holds, read without a recipe, a store or torch.

`read` loads a board, `entry` defines its rows, `provenance` what they rest on, `facts` reads judge, loss, warnings and
costs from that, `catalog` lists the figures of a set of rows. `consistency` refuses figures that a row's outcomes
contradict, `comparisons` replaces comparisons that don't follow from them, `coverage` compares a new board with an old
one. `outcomes` has the paired comparisons, `training_seeds` the spread over training runs, `format` how figures are
written. `folder` and `writing` are about the files themselves, `versions` is about rows and boards at two times.

    from harness.boards.read import read_board

    board = read_board(Path("leaderboards/quickstart"))
    board.entries[0].metrics["alpaca_eval.win_rate"].ci95
"""
