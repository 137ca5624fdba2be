"""Scores are kept: nothing is scored twice, for a longer list, in a second run or after a kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.augmentation.scorer import Scorer
from harness.components import build
from harness.errors import JudgeError
from harness.protocols import Judge, Ready, RewardModel
from harness.types import JudgeReply, JudgeRequest, Message, Messages
from tests.augmentation.test_admission import saved

ROOT = Path(__file__).parents[2]
ROWS = [
    ((Message(role="user", content=f"question {i % 9}"),), f"answer {i} " + "and so on " * (i % 7)) for i in range(60)
]


class Counted(RewardModel):
    """Scores by length, but not texts with '###', and remembers all texts."""

    name: str = "counted"

    def score(self, rows: Sequence[tuple[Messages, str]], ready: Ready) -> list[float | None]:
        asked.extend(text for _, text in rows)
        ready.advance(len(rows))
        return [None if "###" in text else float(len(text)) for _, text in rows]


asked: list[str] = []


def scorer(model: Any, folder: Path, key: str = "k", advance: Any = lambda _: None, parts: Any = ()) -> Scorer:
    return Scorer(model, folder, key=key, journals=folder / "journals", advance=advance, parts=parts)


def test_only_what_is_new_is_scored(tmp_path: Path) -> None:
    asked.clear()
    first = scorer(Counted(), tmp_path)(ROWS[:20])
    assert len(asked) == 20
    again = scorer(Counted(), tmp_path)(ROWS[:50])
    assert again[:20] == first
    assert asked == [text for _, text in ROWS[:50]]
    assert scorer(Counted(), tmp_path, key="another")(ROWS[:5]) == first[:5]
    assert len(asked) == 55
    other_prompt = [((Message(role="user", content="another question"),), ROWS[0][1])]
    scorer(Counted(), tmp_path)(other_prompt)
    assert len(asked) == 56


def test_a_missing_score_is_kept_too(tmp_path: Path) -> None:
    asked.clear()
    rows = [(ROWS[0][0], "### a"), (ROWS[0][0], "b")]
    assert scorer(Counted(), tmp_path)(rows) == scorer(Counted(), tmp_path)(rows) == [None, 1.0]
    assert asked == ["### a", "b"]


def test_the_bar_counts_every_row_once(tmp_path: Path) -> None:
    moved: list[int] = []
    rows = [*ROWS[:10], *ROWS[:4]]  # some texts are repeated
    for _ in range(2):
        moved.clear()
        part = scorer(Counted(), tmp_path, advance=moved.append)
        part(rows)
        assert sum(moved) == part.items(len(rows)) == 14
    noisy: Any = build("reward", {"name": "noisy", "reward": Counted(), "flip": 0.5})
    whole = scorer(noisy, tmp_path, key="noisy", advance=moved.append, parts=[part, part])
    assert whole.items(14) == 28
    assert scorer(build("reward", JUDGE | {"mode": "tournament"}), tmp_path).items(14) is None


JUDGE: dict[str, Any] = {"name": "llm_judge", "judge": {"name": "local", "model": "a/b"}}


class Rater(Judge):
    """A judge that is down for prompts with the text `down`, refuses those with "answer 1 ", and rates the others 7."""

    name: str = "rater"
    batch: int = 1
    down: str = "answer 2 "

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        texts = [request.messages[0].content for request in requests]
        asked.extend(texts)
        return [
            JudgeReply(text="", error="503", transient=True)
            if self.down and self.down in text
            else JudgeReply(text="", error="too long")
            if "answer 1 " in text
            else JudgeReply(text="7")
            for text in texts
        ]

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}


def test_a_judge_that_is_down_stops_scoring_and_keeps_its_replies(tmp_path: Path) -> None:
    def judged(down: str) -> Any:
        return build("reward", JUDGE).model_copy(update={"judge": Rater(down=down)})

    asked.clear()
    with pytest.raises(JudgeError, match=r"failed to answer 1 requests \(503\); the replies that arrived are kept"):
        scorer(judged("answer 2 "), tmp_path)(ROWS[:4])
    first = set(asked)
    asked.clear()
    assert scorer(judged(""), tmp_path)(ROWS[:4]) == [7.0, None, 7.0, 7.0]
    assert len(first) == 4
    assert len(asked) == 2, "those that were down or refused, and so had no reply"
    asked.clear()
    assert scorer(judged(""), tmp_path)(ROWS[:4]) == [7.0, None, 7.0, 7.0]
    assert asked == [], "the refused one is recorded as not scored"


SCRIPT = """
import sys
import time
from pathlib import Path
import torch
from harness.components import build
from tests.augmentation.test_scorer import ROWS, scorer
model, folder = sys.argv[1:3]
torch.set_num_threads(1)
reward = build("reward", {"name": "sequence_classifier", "model": model, "dtype": "float32", "batch_size": 4})
def slow(n):
    time.sleep(0.05)
scorer(reward, Path(folder), advance=slow)(ROWS)
"""


def scoring(model: Path, folder: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(model), str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def journal(folder: Path) -> bytes:
    (path,) = (folder / "journals" / "scores").glob("*.jsonl")
    return path.read_bytes()


@pytest.mark.soak
@pytest.mark.slow
def test_killed_and_resumed_the_scores_are_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    model = saved("bert", tmp_path / "rm", tiny_model)
    assert scoring(model, tmp_path / "whole").wait(120) == 0
    whole = journal(tmp_path / "whole")
    assert whole.count(b"\n") == len(ROWS)
    killed = tmp_path / "killed"
    for count in (4, 20, 44):
        process = scoring(model, killed)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            files = list((killed / "journals" / "scores").glob("*.jsonl"))
            if files and files[0].read_bytes().count(b"\n") >= count:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        rows = journal(killed)
        assert count <= rows.count(b"\n") < len(ROWS)
        assert whole.startswith(rows)
    assert scoring(model, killed).wait(120) == 0
    assert journal(killed) == whole
