"""The body of a reply, received and unpacked up to a limit, in memory that is given back at once."""

import mmap
import zlib
from collections.abc import Iterable, Iterator

from harness.servers.network import BrokenReply, limits

LARGEST_REPLY = 16 << 20
"""Bytes of the largest body, packed or unpacked. Log-probabilities of 20 alternatives take 6 MB for 4,096 tokens."""
LARGE = 256 << 10
"""Bytes from which a body is large. It then waits for its turn (see `harness.servers.network`), and is collected
outside the allocator's arenas: each thread has its own, which stays as large as it ever was."""
CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": zlib.MAX_WBITS}
"""zlib's `wbits` for the codings that are read, although none is asked for."""
_PIECE = 64 << 10


def collected(pieces: Iterable[bytes], largest: int = LARGEST_REPLY) -> bytes:
    """All pieces together. Raises BrokenReply beyond `largest` bytes."""
    small, large, size = bytearray(), None, 0
    try:
        for piece in pieces:
            size += len(piece)
            if size > largest:
                raise BrokenReply(f"the server's reply has more than {largest:,} bytes")
            if large is None and size > LARGE:
                limits.take_large()
                large = mmap.mmap(-1, largest)
                large.write(small)
                small.clear()
            if large is None:
                small += piece
            else:
                large.write(piece)
        return bytes(small) if large is None else large[:size]
    finally:
        if large is not None:
            large.close()


def unpacked(content: bytes, coding: str, largest: int = LARGEST_REPLY) -> bytes:
    """The body as its Content-Encoding says, of at most `largest` bytes. Raises BrokenReply for damaged data, for a
    bomb, and for a coding that isn't read: one that was not asked for, or several."""
    codings = [c for c in (part.strip().lower() for part in coding.split(",")) if c not in ("", "identity")]
    if not codings or not content:
        return content
    if len(codings) > 1 or codings[0] not in CODINGS:
        raise BrokenReply(f"the server's reply is encoded as {coding[:60]!r}; expected plain text")
    wbits = CODINGS[codings[0]]
    if wbits == zlib.MAX_WBITS and content[0] & 15 != 8:  # some servers leave out zlib's header
        wbits = -wbits
    try:
        return collected(_inflated(content, wbits), largest)
    except zlib.error as error:
        raise BrokenReply(f"the server's reply can't be unpacked ({error})") from None


def _inflated(content: bytes, wbits: int) -> Iterator[bytes]:
    rest = content
    while rest:  # several gzip members may follow each other
        member = zlib.decompressobj(wbits)
        while not member.eof:
            piece = member.decompress(rest, _PIECE)
            rest = member.unconsumed_tail
            if not piece and not rest and not member.eof:
                raise zlib.error("it ends early")
            yield piece
        rest = member.unused_data
