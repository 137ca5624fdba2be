"""The recipe's settings as arguments of transformers' Trainer."""

from pathlib import Path

from transformers import TrainingArguments

from harness.errors import ModelError
from harness.models.load import device
from harness.recipe.training import Training
from harness.training.sharding import is_sharded


def training_arguments(
    training: Training, work: Path, seed: int, micro_batch_size: int, max_steps: int | None
) -> TrainingArguments:
    """The arguments of a run in `work`, in this process. `micro_batch_size`: the largest; `max_steps` None: from
    `training.epochs`. Raises ModelError if the processes can't share a batch."""
    on_cpu = device().type == "cpu"
    arguments = TrainingArguments(
        output_dir=str(work),
        num_train_epochs=training.epochs,
        max_steps=max_steps or -1,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_scheduler,
        warmup_steps=training.warmup_ratio,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        seed=seed,
        data_seed=seed,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        use_cache=True,  # Trainer writes this into the saved configuration; no forward here uses a cache
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps" if training.save_every else "no",
        save_steps=training.save_every or 500,
        report_to="none",  # `curves` adds the recipe's trackers
        disable_tqdm=True,
        # Sharded gradients are added up in float32 batch by batch, rather than kept whole in every process.
        accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": is_sharded()}},
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # as Trainer itself does to avoid nn.DataParallel
    share, rest = divmod(training.batch_size, arguments.world_size)
    if rest:
        raise ModelError(
            f"batch_size {training.batch_size} can't be shared by {arguments.world_size} processes; "
            "expected a multiple: change training.batch_size or num_processes"
        )
    micro = max(m for m in range(1, min(micro_batch_size, share) + 1) if share % m == 0)
    arguments.per_device_train_batch_size = micro
    arguments.gradient_accumulation_steps = share // micro
    return arguments
