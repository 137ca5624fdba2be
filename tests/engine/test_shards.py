"""Shards: every row is in one of them, their results come back in order, and what one stores any other finds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.augmentation.pool import Pool
from harness.engine import journal as journals
from harness.engine.journal import Journal, content_key
from harness.engine.shards import partition, spool
from harness.engine.shards.journal import ShardJournal, files_of
from harness.engine.shards.partition import BITS, bits_of, depth_of, hash_of, related
from harness.engine.shards.spool import dealt
from harness.errors import StoreError
from harness.protocols import Arrived, Generator, Sampled, SampleRequest
from harness.types import Completion, Message, Record, Sampling


class Row(Record):
    id: str
    text: str


class Result(Record):
    id: str
    shard: str


@given(st.lists(st.integers(0, 2**BITS - 1), max_size=200), st.integers(1, 40), st.integers(1, 50))
@example([7] * 60, 2, 10)
def test_shards_are_small_and_there_are_some_for_each_worker(hashes: list[int], workers: int, largest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "LARGEST", largest)
        depth = depth_of(hashes, workers)
    if len(hashes) <= largest and workers == 1:
        assert depth == 0
    sizes: dict[str, int] = {}
    for hashed in hashes:
        sizes[bits_of(hashed, depth)] = sizes.get(bits_of(hashed, depth), 0) + 1
    assert all(len(name) == depth for name in sizes)
    assert 2**depth >= min(partition.A_WORKER * workers, len(hashes)) or workers == 1
    assert 2**depth <= 16 * max(partition.A_WORKER * workers, len(hashes) / largest, 1)  # not more than is of use


@given(st.text(), st.integers(0, BITS), st.integers(0, BITS))
def test_a_row_is_in_the_shards_that_may_have_it(name: str, one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert bits_of(hash_of(name), many).startswith(bits_of(hash_of(name), few))
    assert related(bits_of(hash_of(name), one), bits_of(hash_of(name), other))


@settings(max_examples=40)
@given(st.lists(st.text(max_size=6), max_size=40), st.integers(1, 5), st.integers(1, 30), st.integers(1, 400))
def test_results_are_in_the_order_of_the_rows(ids: list[str], workers: int, largest: int, held: int) -> None:
    """Whatever is in one shard, also rows with the same id, and however little is held in memory."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "LARGEST", largest)
        patch.setattr(spool, "HELD", held)
        patch.setattr(spool, "LEAST", 8)
        rows = [Row(id=text, text=f"{i}\u2028\n") for i, text in enumerate(ids)]
        with dealt(((row.id, row) for row in rows), Path(name), workers) as parts:
            seen: list[Row] = []
            for shard in parts.shards:
                mine = list(shard.rows(Row))
                assert len(mine) == shard.size > 0
                assert {bits_of(hash_of(row.id), len(shard.bits)) for row in mine} == {shard.bits}
                shard.write(Result(id=row.text, shard=shard.bits) for row in mine)
                shard.write(Result(id=row.text, shard=shard.bits) for row in mine)  # its worker was thought to be lost
                seen += mine
            assert sorted(row.text for row in seen) == sorted(row.text for row in rows)
            assert [result.id for result in parts.results(Result)] == [row.text for row in rows]
        assert not list(Path(name).iterdir())


def test_a_shard_with_a_result_too_few_is_an_error(tmp_path: Path) -> None:
    with (
        dealt([("a", Row(id="a", text="x"))], tmp_path, 1) as parts,
        pytest.raises(StoreError, match="0 results for 1"),
    ):
        parts.shards[0].write([])


@dataclass
class Run:
    """What a run asks for: so many samples of so many prompts, in 2^depth shards."""

    prompts: int
    samples: int
    depth: int
    asked: list[Any] = field(default_factory=list)


class Writer(Generator):
    """Remembers what it was asked for."""

    name: str = "writer"

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        for i, request in enumerate(requests):
            asked.extend((request.prompt, k) for k in request.samples)
            arrived([Sampled(i, k, _text(request.prompt, k)) for k in request.samples])


asked: list[Any] = []


def _text(prompt: Any, sample: int) -> Completion:
    return Completion(text=f"{sample} to {prompt[0].content}", finish_reason="stop", tokens=1)


def sample(folder: Path, prompts: int, samples: int, depth: int) -> None:
    """All samples by shards, one after the other."""
    shards: dict[str, list[int]] = {}
    for i in range(prompts):
        shards.setdefault(bits_of(hash_of(str(i)), depth), []).append(i)
    for bits, mine in shards.items():
        texts = [(Message(role="user", content=str(i)),) for i in mine]
        pool = Pool(Writer(), folder, seed=0, advance=lambda _: None, shard=bits)
        found = pool.sample(texts, Sampling(), range(samples))
        assert found == [[_text(text, k) for k in range(samples)] for text in texts]


@settings(max_examples=12)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(0, 4)), min_size=1, max_size=5))
def test_runs_with_any_numbers_of_shards_share_their_samples(runs: list[tuple[int, int, int]]) -> None:
    asked.clear()
    with TemporaryDirectory() as name:
        for run in runs:
            sample(Path(name), *run)
        assert len(asked) == len(set(asked))  # nothing was generated twice
        keys = [key for path in Path(name).glob("*.jsonl") for key in Journal(path, Completion, "sample").rows()]
        assert len(keys) == len(set(keys)) == len(asked)


def test_a_shard_reads_what_concerns_it(tmp_path: Path) -> None:
    path = tmp_path / "samples-1.jsonl"
    for bits in ("", "0", "1", "01", "010", "011", "00"):
        ShardJournal(path, bits, Completion).append(
            [(content_key(bits), _text([Message(role="user", content=bits)], 0))]
        )
    (tmp_path / "samples-12.jsonl").write_text("not ours\n")
    (tmp_path / "samples-1-0.jsonl.damaged").write_text("a line that was set aside\n")
    assert [file.name for file in files_of(path, "01")] == [
        f"samples-1{bits}.jsonl" for bits in ("", "-0", "-01", "-010", "-011")
    ]
    assert len(files_of(path)) == 7
    keys = [content_key(bits) for bits in ("", "0", "1", "011")]
    assert ShardJournal(path, "01", Completion).rows(keys).keys() == {keys[0], keys[1], keys[3]}


@pytest.mark.parametrize("together", [True, False])
def test_what_isnt_wanted_is_left_out_of_memory(together: bool, tmp_path: Path) -> None:
    """In pieces of any size, with batches that are whole or were cut short."""
    path = tmp_path / "j.jsonl"
    rows = [(content_key(i), Completion(text=f"text {i} " * 5, finish_reason="stop", tokens=i)) for i in range(12)]
    Journal(path, Completion).append(rows[:5], together)
    Journal(path, Completion).append(rows[5:], together)
    whole = path.read_bytes()
    wanted = {rows[i][0] for i in (0, 4, 7, 11)}
    for piece in (1, 50, 333, 10_000):
        for cut in (0, 40):
            path.write_bytes(whole[: len(whole) - cut])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(journals, "PIECE", piece)
                journal = Journal(path, Completion, wanted=wanted)
                found = {key: row for key, row in Journal(path, Completion).rows().items() if key in wanted}
                assert dict(journal.rows()) == found
    assert len(found) == (2 if together else 3)
    journal.append([row for row in rows if row[0] in wanted], together)
    assert dict(journal.rows()) == {key: row for key, row in rows if key in wanted}
