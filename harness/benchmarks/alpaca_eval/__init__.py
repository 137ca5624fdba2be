"""AlpacaEval 2 (arXiv 2404.04475), by the `alpaca_eval` package's own annotator, parser and metrics.

`benchmark` has the benchmark, `figures` its figures, `data` and `gamed` the files it needs, `annotator` and `package`
the use of the package, `win_rates` and `length_control` the rates, `files` the public formats, `public_leaderboard`
the published rows.

    benchmarks: [{name: alpaca_eval, reference: base}]
"""
