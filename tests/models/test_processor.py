"""Whether the processor is good at bfloat16: measured once, recorded, and what `dtype: auto` becomes."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.models import processor
from harness.models.processor import GOOD, bfloat16_here, bfloat16_speed, record_file
from harness.recipe.policy import Policy
from tests.stand_ins import record_processor


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a measurement gives, and how often there was one; on a machine without accelerator and record."""
    measured = {"is": 4.0, "times": 0}

    def measure(*_: str) -> float:
        measured["times"] += 1
        return measured["is"]

    monkeypatch.setattr(processor, "bfloat16_speed", measure)
    monkeypatch.setattr(processor, "_may_have_accelerator", lambda: False)
    record_file().unlink()
    return measured


@pytest.mark.parametrize(("ratio", "dtype"), [(GOOD, "bfloat16"), (GOOD - 0.01, "float32"), (0.3, "float32")])
def test_auto_is_the_faster_dtype(ratio: float, dtype: str, speed: dict[str, Any]) -> None:
    speed["is"] = ratio
    for component in (
        Policy(model="a/b"),
        build("generator", {"name": "hf", "model": "a/b", "dtype": "auto"}),
        build("generator", {"name": "vllm", "model": "a/b"}),
        build("judge", {"name": "local", "model": "a/b"}),
        build("reward", {"name": "sequence_classifier", "model": "a/b"}),
        build("reward", {"name": "trained", "base": "a/b"}),
    ):
        assert component.model_dump()["dtype"] == dtype


def test_the_first_measurement_decides(speed: dict[str, Any]) -> None:
    assert bfloat16_here().good
    speed["is"] = 0.5
    assert bfloat16_here().good
    assert speed["times"] == 1
    assert " 4.0 times as fast as in float32" in bfloat16_here().reason


def test_nothing_is_measured_for_a_dtype_that_is_given(speed: dict[str, Any]) -> None:
    assert Policy(model="a/b", dtype="bfloat16").dtype == "bfloat16"
    assert build("judge", {"name": "local", "model": "a/b", "dtype": "float16"}).model_dump()["dtype"] == "float16"
    assert speed["times"] == 0
    assert not record_file().exists()


def changed(**fields: Any) -> str:
    return json.dumps(json.loads(record_file().read_text()) | fields)


@pytest.mark.parametrize(
    "damage",
    [
        lambda: "",
        lambda: "{",
        lambda: "null",
        lambda: changed(processor="another one"),
        lambda: changed(torch="1.0"),
        lambda: changed(good="yes"),
        lambda: changed(good=1),
        lambda: changed(speed=0),
        lambda: changed(more=1),
        lambda: record_file().read_text().replace("4.0", "NaN"),
        lambda: "[" * 100_000,
    ],
)
def test_a_record_that_is_no_record_of_this_machine_is_measured_anew(damage: Any, speed: dict[str, Any]) -> None:
    bfloat16_here()
    sound = record_file().read_text()
    record_file().write_text(damage())
    assert bfloat16_here().good
    assert speed["times"] == 2
    assert record_file().read_text() == sound
    assert [p.name for p in record_file().parent.iterdir()] == [record_file().name]


def test_a_record_that_cannot_be_written_is_no_error(speed: dict[str, Any]) -> None:
    record_file().mkdir()  # a folder of that name is neither read nor replaced
    assert bfloat16_here().good
    assert bfloat16_here().good
    assert speed["times"] == 2


def test_of_two_that_measure_at_once_the_first_decides(speed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def slower_than_another(*_: str) -> float:
        record_processor(good=False)
        return 4.0

    monkeypatch.setattr(processor, "bfloat16_speed", slower_than_another)
    assert not bfloat16_here().good


@pytest.mark.parametrize("what", ["processor_name", "torch_version"])
def test_another_processor_or_torch_has_its_own_record(
    what: str, speed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bfloat16_here().good
    speed["is"] = 0.5
    with monkeypatch.context() as other:
        other.setattr(processor, what, lambda: "another")
        assert not bfloat16_here().good
    assert bfloat16_here().good
    assert speed["times"] == 2


def test_the_number_of_threads_changes_nothing(speed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    bfloat16_here()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    bfloat16_here()
    assert speed["times"] == 1


def test_an_accelerator_is_not_measured(speed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(processor, "_may_have_accelerator", lambda: True)
    monkeypatch.setattr(processor, "torch_device", lambda: torch.device("cuda"))
    speed["is"] = 0.5
    assert bfloat16_here() == (True, "there is an accelerator")
    monkeypatch.setattr(processor, "torch_device", lambda: torch.device("cpu"))  # one that torch can't use
    assert not bfloat16_here().good
    assert speed["times"] == 1


def test_a_measurement_leaves_torch_as_it_was() -> None:
    import torch

    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    assert bfloat16_speed.__wrapped__("a", "b") > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names instructions of x86-64")
@pytest.mark.parametrize("most", ["AVX2", "AVX512_CORE"])
def test_what_imitates_bfloat16_is_not_good_at_it(most: str) -> None:
    """Measured in a process whose products are kept from using newer instructions, while others run."""
    source = "from harness.models.processor import bfloat16_speed as s; print(s('a', 'b'))"
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        run = subprocess.run(
            [sys.executable, "-c", source],
            env={**os.environ, "ONEDNN_MAX_CPU_ISA": most},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
            timeout=60,
        )
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert float(run.stdout) < GOOD
