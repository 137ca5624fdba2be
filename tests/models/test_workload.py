"""How large models are, and what computes: what times in a plan rest on."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from harness.components import build
from harness.models.workload import device, models_of_unknown_size, parameters, work
from harness.pipeline.plan_view import amount, duration


def test_parameters_are_those_of_the_weights(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert parameters(str(tiny_model)) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("smollm2-135m-instruct", 135e6),
        ("mistralai/Mistral-7B-Instruct-v0.2", 7e9),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5e9),
        ("weqweasdas/RM-Gemma-7B", 7e9),
        ("org/model", None),
    ],
)
def test_or_what_the_name_says(name: str, count: float | None) -> None:
    assert parameters(name) == count


def test_a_damaged_file_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    assert parameters(str(tmp_path)) is None
    assert models_of_unknown_size([]) == []


def test_models_of_parts_count_and_served_ones_do_not() -> None:
    local = {"name": "trained", "base": "smollm2-135m-instruct"}
    assert build("reward", {"name": "noisy", "reward": local}).models_in_process() == ["smollm2-135m-instruct"]
    served = {"name": "openai", "model": "m-7b", "base_url": "http://127.0.0.1:1/v1"}
    assert build("judge", served).models_in_process() == []


def test_twice_the_tokens_are_twice_the_work() -> None:
    one = work(["smollm2-135m-instruct"], 1000)
    assert work(["smollm2-135m-instruct"], 2000) == pytest.approx(2 * one)
    assert work(["smollm2-135m-instruct"] * 2, 1000) == pytest.approx(2 * one)
    assert work(["org/model"], 1000) == 0


def test_this_machine_computes() -> None:
    assert 1e8 < device().peak < 1e17


def test_durations_and_amounts_are_said_in_few_words() -> None:
    assert [duration(s) for s in (0, 3.21, 59, 61, 3599, 3601, 7260)] == [
        *("", "3.2 s", "59 s", "1 min 01 s", "59 min 59 s", "1 h 00 min", "2 h 01 min")
    ]
    assert [amount(n) for n in (12_345, 4_569_600, 1_234_000_000)] == ["12,345", "4.57M", "1,234M"]
