"""The harness's own trainer, on `transformers.Trainer`: any loss over N ranked responses.

`batch` makes shared-prefix rows from ranked examples, `ranked_trainer` computes the loss, `probe` finds responses that
the loss ignores, `order` fixes the order of prompts, `metrics` describes each step, `job` runs it all, optionally in
several processes.

    from harness.training.ranked.job import TrainingJob
"""
