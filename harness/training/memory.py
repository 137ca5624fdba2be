"""Memory that this process no longer needs."""

import ctypes
import gc
import sys


def give_back() -> None:
    """Return freed memory to the system. Python frees a model late if it is in a cycle, and glibc keeps the space of
    freed tensors, in pieces that the next model's don't fit."""
    gc.collect()
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in every libc
    if trim is not None:
        trim(0)
