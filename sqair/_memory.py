# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets the C library keep the memory that TensorFlow frees, instead of giving it back after every operation.

Tensors of a few megabytes come and go with each operation of an update; mapping fresh pages for them took up to a
sixth of the time. All threads share one heap: what one of them frees, another can use. Where there is no `mallopt` (no
glibc), nothing changes.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT_BYTES = 2**30  # free memory at the heap's end beyond this is given back
LARGEST_FROM_HEAP = 2**25  # glibc's upper limit


def keep_freed_memory():
    """Sets both thresholds and the number of heaps; returns whether that was possible."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = (M_MMAP_THRESHOLD, LARGEST_FROM_HEAP), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_ARENA_MAX, 1)
    done = [mallopt(*setting) for setting in settings]
    return all(done)
