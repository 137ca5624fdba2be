"""`harness.training.processes`, where accelerate shards on a CPU, too: by itself it does so on accelerators only."""

import sys
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


def shard_on_cpus() -> None:
    original = AcceleratorState.__init__

    def initialise(self: Any, *args: Any, fsdp_plugin: Any = None, **options: Any) -> None:
        original(self, *args, fsdp_plugin=fsdp_plugin, **options)
        if self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = initialise


if __name__ == "__main__":
    from harness.training import sharding
    from harness.training.processes import main

    sharding.SHARDING.add("cpu")

    shard_on_cpus()
    main(Path(sys.argv[1]))
