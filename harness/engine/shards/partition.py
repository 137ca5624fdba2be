"""Which shard a row is in: that of the first bits of its id's hash.

So a shard holds the same prompts in whatever data they are, and a shard of 2^k shards is that of two of 2^(k+1).
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

LARGEST = 4096
"""Rows of a shard, at most. What fits in one is computed in the batches in which it always was."""
A_WORKER = 4
"""Shards for each worker, so that all end at about the same time, and a lost one costs little."""
BITS = 32
"""Bits of a hash."""


def hash_of(row: str) -> int:
    """The hash of a row's id, in [0, 2^BITS)."""
    return int.from_bytes(hashlib.sha256(row.encode()).digest()[: BITS // 8])


def depth_of(hashes: Sequence[int], workers: int) -> int:
    """The number of leading bits that tell shards apart, so that none has more than LARGEST rows (but for rows with the
    same id), and there are some for each of `workers` workers. 0: one shard has them all."""
    wanted = min(A_WORKER * workers, len(hashes)) if workers > 1 else 1
    depth = (max(wanted, -(-len(hashes) // LARGEST), 1) - 1).bit_length()
    deepest = depth + 3  # more would not part what the same id holds together
    while depth < deepest and _most(hashes, depth) > LARGEST:
        depth += 1
    return min(depth, BITS)


def bits_of(hashed: int, depth: int) -> str:
    """The first bits of a hash, as a shard's name; empty for the only shard."""
    return f"{hashed >> (BITS - depth):0{depth}b}" if depth else ""


def related(one: str, other: str) -> bool:
    """Whether two shards, of whatever numbers of shards, may have rows in common."""
    return one.startswith(other) or other.startswith(one)


def _most(hashes: Sequence[int], depth: int) -> int:
    """Rows of the largest shard."""
    return max(Counter(hashed >> (BITS - depth) for hashed in hashes).values(), default=0)
