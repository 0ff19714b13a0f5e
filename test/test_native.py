"""How the C++ libraries are called, by functions of the C library that return what theirs do."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch

from lift_ros.native import call, pointer

libc = ctypes.CDLL(None)
libc.atoi.restype, libc.atoi.argtypes = ctypes.c_int, [ctypes.c_char_p]
libc.memchr.restype, libc.memchr.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.srand.restype, libc.srand.argtypes = None, [ctypes.c_uint]


def test_what_stands_for_no_memory_is_an_error():
    octets = np.array([1, 2, 3], np.uint8)
    assert call(libc.atoi, b"0") == 0 and call(libc.atoi, b"7") == 7
    with pytest.raises(MemoryError, match="out of memory in atoi"):
        call(libc.atoi, b"-1")
    assert call(libc.memchr, octets, 2, 3) == octets.ctypes.data + 1
    with pytest.raises(MemoryError, match="memchr"):  # a handle that is none
        call(libc.memchr, torch.from_numpy(octets), 9, 3)
    assert call(libc.srand, 1) is None


def test_memory_that_is_not_contiguous_is_not_lent():
    assert pointer(None) is None
    for array in (np.zeros((4, 4))[:, ::2], torch.zeros(4, 4).t()[:, :2]):
        with pytest.raises(AssertionError):
            pointer(array)
