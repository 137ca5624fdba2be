"""A store with a few artifacts and a journal, and the command that looks after it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.boards.entry import Entry
from harness.engine.journal import Journal, content_key
from harness.engine.store import ArtifactRecord, Store, stage_key, write_json, write_rows
from harness.report.write import write_board
from harness.types import Completion, Response

ROOT = Path(__file__).parents[2]


def publish(store: Store, stage: str, inputs: dict[str, str], **params: Any) -> str:
    key = stage_key(stage, 1, params, inputs)
    record = ArtifactRecord(
        key=key,
        stage=stage,
        version=1,
        params=params,
        inputs=inputs,
        files={},
        report={"rows": 2},
        made_by={},
        seconds=0,
    )
    with store.lock(key), store.building(key) as scratch:
        write_rows(scratch / "rows.jsonl", [Response(text=f"{stage} {i}" * 20, source="x") for i in range(2)])
        (scratch / "checkpoint").mkdir()
        (scratch / "checkpoint" / "weights").write_bytes(os.urandom(300))
        write_json(scratch / "report.json", {"b": 1})
        store.publish(scratch, record)
    return key


class Sample:
    """A store: seeds -> ranked -> train -> verdicts, a second training, and a journal."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.seeds = publish(self.store, "seeds", {})
        self.ranked = publish(self.store, "ranked", {"seeds": self.seeds})
        self.train = publish(self.store, "train", {"ranked": self.ranked}, beta=1)
        self.other = publish(self.store, "train", {"ranked": self.ranked}, beta=2)
        self.verdicts = publish(self.store, "verdicts", {"answers": self.train})
        self.dataset = publish(self.store, "dataset", {"ranked": self.ranked})
        journal = Journal(self.store.pool / "samples-1.jsonl", Completion, column="sample")
        for i in range(6):
            journal.append([(content_key(i), Completion(text=f"t{i}", finish_reason="stop", tokens=i))])

    def board(self, folder: Path, **keys: str) -> Path:
        row = Entry(id="multi", method="mdpo_linear", provenance={"keys": keys})
        write_board(folder, folder.name, [row])
        return folder


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", "cache", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
