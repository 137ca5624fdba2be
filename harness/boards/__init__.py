"""What a board holds, read without a recipe, a store or torch.

`read` loads a board, `entry` defines its rows, `provenance` what they rest on, `facts` reads judge, loss and warnings
from that, `catalog` lists the figures of a set of rows, `outcomes` has the paired comparisons, `effects` the effect of
each field that a sweep varies, `training_seeds` the spread over training runs, `costs` what rows cost, `format` how
figures are written.

    from harness.boards.read import read_board

    board = read_board(Path("leaderboards/quickstart"))
    board.entries[0].metrics["alpaca_eval.win_rate"].ci95
"""
