"""Training: a policy from a ranked dataset, by the harness's own trainer or by TRL's.

`ranked` takes any loss over N responses, `trl` has TRL's losses and fine-tuning. `policy` loads and saves, `budget`
matches one training's budget to another's, `signs` reads what went wrong from the lines of steps.jsonl. See the README
in this folder.

    from harness.training.signs import failure_signs
    from harness.training.steps import read_steps

    failure_signs(read_steps(checkpoint / "steps.jsonl"))
"""
