"""What a gate in CI needs beside `harness gate`: `journals` moves verdicts between machines, `history` draws a
baseline's promotions, `pull_request` is the part of `.github/actions/gate` that reads a recipe."""
