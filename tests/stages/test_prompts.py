"""New prompts: what they record, equal requests, rounds that fall short, and generators that are of no use."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.protocols import Arrived, Sampled, SampleRequest
from harness.types import Completion, Message
from tests.stages.scripted import Script, recipe, run

WRITER = Script(text="Tell me something about subject number {i} please.")


class Different(Script):
    """Writes another text for every request and sample, and hands them over one at a time."""

    name: str = "different"

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        for i, request in enumerate(requests):
            for k in request.samples:
                digest = hashlib.sha256(f"{seed} {request.prompt} {k}".encode()).hexdigest()
                text = " ".join(digest[j : j + 6] for j in range(0, 60, 6))
                arrived([Sampled(i, k, Completion(text=f"Explain {text}?", finish_reason="stop", tokens=4))])


def test_a_surplus_prompt_is_dropped(tmp_path: Path) -> None:
    report = run(recipe(prompts={"generator": WRITER, "count": 1}), tmp_path)["prompts"].report
    assert (report["kept"], report["written"], sum(report["dropped"].values())) == (1, 2, 1)


def test_a_generator_that_writes_nothing_usable_is_an_error(tmp_path: Path) -> None:
    silent = recipe(prompts={"generator": Script(text=" "), "count": 3, "max_attempts": 2})
    with pytest.raises(DataError, match=r"none of \d+ written prompts was usable \(\{'empty'"):
        run(silent, tmp_path)


def test_new_prompts_record_their_shots(tmp_path: Path) -> None:
    artifacts = run(recipe(prompts={"generator": WRITER, "count": 1, "shots": 2}), tmp_path)
    (line,) = (artifacts["prompts"].folder / "prompts.jsonl").read_text().splitlines()
    train = {json.loads(row)["id"] for row in (artifacts["seeds"].folder / "train.jsonl").read_text().splitlines()}
    shots = json.loads(line)["shots"]
    assert len(shots) == 2
    assert set(shots) <= train
    assert Message.model_validate(json.loads(line)["messages"][-1]).role == "user"


def test_equal_requests_get_different_texts(tmp_path: Path) -> None:
    """With one shot out of 15 rows, many of a round's 50 requests are equal."""
    different = recipe(prompts={"generator": Different(), "count": 40, "shots": 1, "languages": []})
    first, again = (run(different, tmp_path / name)["prompts"] for name in ("first", "again"))
    assert (first.report["kept"], first.report["written"]) == (40, 50)
    assert (first.folder / "prompts.jsonl").read_bytes() == (again.folder / "prompts.jsonl").read_bytes()


def test_a_stage_that_falls_short_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = Script(text="Tell me something about the same old subject please.")
    artifacts = run(recipe(prompts={"generator": writer, "count": 3, "max_attempts": 2}), tmp_path)
    assert artifacts["prompts"].report["kept"] == 1
    assert "only 1 of 3 new prompts after 2 rounds; raise max_attempts" in caplog.text
