"""IFBench (arXiv 2507.02833): does an answer keep to constraints that a program can verify?

`benchmark` has the benchmark; the verifiers are those of the package `if-verifiable`, which are IFBench's own.

    benchmarks: [{name: ifbench, limit: 100}]
"""
