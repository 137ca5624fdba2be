"""TRL's trainers on the same ranked data: `dpo` its DPOTrainer with any of its losses, `sft` its SFTTrainer.

Tokens, adapters, seeds and hyperparameters are the same as in the harness's own trainer, so rows can be compared. `run`
has what both share.

    from harness.training.trl.dpo import train_with_trl
"""
