"""HumanEval (arXiv 2107.03374): does a model's code pass the problem's tests?

`benchmark` has the benchmark, `programs` makes a program of an answer. The code runs in `harness.children.sandbox`.

    benchmarks: [{name: humaneval, allow_code: true}]
"""
