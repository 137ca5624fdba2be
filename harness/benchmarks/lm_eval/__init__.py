"""Tasks of EleutherAI's lm-eval, with its prompts, filters and metrics; the answers are a row's own.

`benchmark` has the benchmark, `tasks` finds and loads tasks with their data, `replay` turns their requests into
questions, and answers into their results.

    benchmarks: [{name: lm_eval, tasks: [ifeval, {task: gsm8k, measure: flexible-extract}], limit: 200}]
"""
