"""Operations, seconds and memory of models' work, against what is published about them."""

import pytest

from harness.components import build
from harness.errors import RecipeError
from harness.models.demand.devices import ASSUMED, RESERVED, device, named
from harness.models.demand.loads import Decoding, Scoring
from harness.models.demand.parts import loaded, sampling, scoring
from harness.models.demand.parts import training as of_component
from harness.models.demand.training import Training

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
H100 = named("h100").device
P = 7_241_732_096


def test_devices_are_named_with_or_without_a_number() -> None:
    assert named("H100") == named("h100:1")
    assert named("h100:64").number == 64
    assert (H100.memory, H100.peak, H100.bandwidth) == (80e9, 989e12, 3.35e12)
    assert "data sheet" in H100.source


@pytest.mark.parametrize(("text", "reason"), [("h101", "did you mean 'h100'"), ("h100:0", "h100:8"), ("", "h100:8")])
def test_other_names_are_errors_of_one_line(text: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=r"^--on.*" + reason):
        named(text)


def test_training_takes_six_operations_for_each_parameter_and_token() -> None:
    """arXiv 2001.08361; with adapters there is no product for the weights' gradients."""
    rate = H100.peak * ASSUMED.training
    full = Training(MISTRAL, 1e6, 4096).seconds(H100)
    assert full == pytest.approx(6 * P * 1e6 / rate)
    assert Training(MISTRAL, 1e6, 4096, rank=16).seconds(H100) == pytest.approx(4 * P * 1e6 / rate)
    assert Training(MISTRAL, 1e6, 4096, checkpointed=True).seconds(H100) == pytest.approx(8 * P * 1e6 / rate)
    assert Training("owner/model", 1e6, 4096).seconds(H100) is None


def test_all_weights_hold_sixteen_bytes_a_parameter_and_shards_a_part() -> None:
    """As ZeRO counts them (arXiv 1910.02054): 16 bytes, and at stage 3 an equal part in each process."""
    one = Training(MISTRAL, 1e6, 8).memory(H100)
    assert one is not None
    assert one - RESERVED == pytest.approx(16 * P, rel=0.02)
    eight = Training(MISTRAL, 1e6, 8, processes=8, sharded=True).memory(H100)
    assert eight is not None
    assert 16 * P / 8 < eight - RESERVED < 16 * P / 8 + 4e9


def test_qlora_fits_where_lora_does_not() -> None:
    l4 = named("l4").device
    lora = Training(MISTRAL, 1e6, 2048, rank=16, checkpointed=True)
    remedies = [(name, smaller.memory(l4)) for name, smaller in Training(MISTRAL, 1e6, 4096, rank=16).smaller()]
    plain, quantised = lora.memory(l4), dict(remedies)["lora: {bits: 4} (QLoRA)"]
    assert plain
    assert quantised
    assert quantised < plain - 9e9
    assert quantised < l4.memory


def test_decoding_alone_reads_all_weights_for_each_token() -> None:
    one = Decoding(MISTRAL, 1000, 1024, 1, read=0, written=1000, texts=1, by_engine=True)
    seconds = one.seconds(H100)
    assert seconds
    assert 1000 / seconds == pytest.approx(0.6 * 3.35e12 / (2 * P), rel=0.02)
    many = Decoding(MISTRAL, 256_000, 1024, 256, read=0, written=1000, texts=256, by_engine=True)
    assert (many.seconds(H100) or 0) < 10 * seconds, "256 sequences share the reading of weights"
    slow = Decoding(MISTRAL, 1000, 1024, 1, written=1000, texts=1).seconds(H100)
    assert slow == pytest.approx(1000 * 32 * 1e-3), "a millisecond a layer in process"


def test_a_batch_of_sequences_is_what_fits() -> None:
    crowded = Decoding(MISTRAL, 1e6, 32_000, 256, written=1000, texts=1000, by_engine=True)
    memory = crowded.memory(H100)
    assert memory
    assert memory < H100.memory
    assert crowded.shape
    assert 1 < crowded.batch(crowded.shape, H100) < 256
    assert (Decoding("owner/x-70b", 1e6, 512, 8, texts=8).memory(H100) or 0) > H100.memory


def test_float32_is_priced_as_such() -> None:
    half, single = (Scoring(MISTRAL, 1e6, 1024, 8, dtype) for dtype in ("bfloat16", "float32"))
    assert (single.seconds(H100) or 0) / (half.seconds(H100) or 1) == pytest.approx(989 / 67)
    assert (single.memory(H100) or 0) - (half.memory(H100) or 0) >= 2 * P


def test_components_count_with_their_parts_and_served_ones_do_not() -> None:
    local = {"name": "trained", "base": "smollm2-135m-instruct", "dtype": "bfloat16"}
    noisy = build("reward", {"name": "noisy", "reward": local})
    assert loaded(noisy) == [("smollm2-135m-instruct", "bfloat16")]
    assert [load.tokens for load in scoring(noisy, 1e5, 512, 4)] == [1e5]
    assert [load.rank for load in of_component(build("reward", local), 1e5, 512)] == [16]  # type: ignore[attr-defined]
    served = build("judge", {"name": "openai", "model": "m-7b", "base_url": "http://127.0.0.1:1/v1"})
    assert scoring(served, 1e5, 512, 4) == ()
    of_engine = sampling([served], 100, 50, 20, [(MISTRAL, 2)])
    assert [(load.model, load.tokens, load.processes) for load in of_engine] == [(MISTRAL, 5000, 2)]


def test_this_machine_computes() -> None:
    here = device()
    assert 1e8 < here.peak < 1e17
    assert 1e8 < here.memory < 1e14
