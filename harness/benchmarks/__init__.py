"""Benchmarks: one per file or folder, a subclass of `harness.benchmark.Benchmark`.

A benchmark has questions, asks a judge about the answers, and declares the figures that it measures. That declaration
is all that boards, gates, comparisons and charts read.

    >>> from harness.components import build
    >>> benchmark = build("benchmark", {"name": "mt_bench", "questions": "builtin", "limit": 2})
    >>> [question.category for question in benchmark.load_questions()]
    ['writing', 'coding']
"""
