"""The generator in process: requests in, samples out; killed by SIGKILL and resumed."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.augmentation.pool import Pool
from harness.components import build, identity
from harness.errors import ModelError
from harness.protocols import Sampled, SampleRequest
from harness.types import Completion, Message, Sampling

SAMPLING = Sampling(temperature=1.0, max_new_tokens=12)


def asked(count: int = 9) -> list[tuple[Message, ...]]:
    return [(Message(role="user", content="word " * (1 + 5 * (k % 4)) + str(k)),) for k in range(count)]


def write(generator, requests: Sequence[SampleRequest], seed: int = 0) -> dict[tuple[int, int], Completion]:
    done: dict[tuple[int, int], Completion] = {}

    def arrived(rows: Sequence[Sampled]) -> None:
        assert not done.keys() & {(r.request, r.sample) for r in rows}
        done.update({(r.request, r.sample): r.completion for r in rows})

    generator.generate(requests, seed=seed, arrived=arrived)
    return done


def hf(model: Path, **options):
    return build("generator", {"name": "hf", "model": str(model), "dtype": "float32", **options})


def test_conversations_and_texts_are_continued(tiny_model: Path) -> None:
    """A text that is what the template makes of a conversation is the same prompt, and gets the same samples."""
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    talk = (Message(role="user", content="hi"),)
    done = write(hf(tiny_model), [SampleRequest(p, SAMPLING, (0, 1, 2)) for p in (talk, rendered, "hi")])
    assert sorted(done) == [(i, k) for i in range(3) for k in range(3)]
    assert [done[0, k] for k in range(3)] == [done[1, k] for k in range(3)] != [done[2, k] for k in range(3)]


def test_batch_size_changes_neither_samples_nor_identity(tiny_model: Path) -> None:
    requests = [SampleRequest(p, SAMPLING, (0, 1)) for p in asked()]
    whole = write(hf(tiny_model), requests)
    for size in (1, 5):
        assert write(hf(tiny_model, batch_size=size), requests) == whole
        assert identity(hf(tiny_model, batch_size=size)) == identity(hf(tiny_model))
    assert write(hf(tiny_model), requests, seed=1) != whole
    with pytest.raises(ModelError):
        hf(tiny_model / "nowhere").check()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_that_is_stopped_after_any_batch_ends_with_the_same_pool(
    dtype: str, tiny_model: Path, tmp_path: Path
) -> None:
    """In bfloat16 a text depends on its batch: the batches after the stop must be those that there would have been."""
    generator = hf(tiny_model, dtype=dtype, batch_size=5)
    whole = Pool(generator, tmp_path / "whole", seed=0, advance=lambda _: None).sample(asked(), SAMPLING, range(2))
    for batches in (1, 2, 4):
        left = [batches]

        def advance(count: int, left: list[int] = left) -> None:
            left[0] -= count > 0
            if left[0] == 0:
                raise Stopped

        folder = tmp_path / f"after-{batches}"
        with pytest.raises(Stopped):
            Pool(generator, folder, seed=0, advance=advance).sample(asked(), SAMPLING, range(2))
        counts: list[int] = []
        resumed = Pool(generator, folder, seed=0, advance=counts.append).sample(asked(), SAMPLING, range(2))
        assert resumed == whole
        assert sum(counts) == 18
        assert counts[0] > 0, "nothing was kept"
