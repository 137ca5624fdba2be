"""MT-bench (arXiv 2306.05685), by FastChat's questions, judge prompts and rating rules.

`benchmark` has the benchmark, `figures` its figures, `data` the questions, `prompts` the judge prompts, `verdicts` the
verdicts and metrics, `files` FastChat's file formats.

    benchmarks: [{name: mt_bench, mode: pairwise, reference: base}]
"""
