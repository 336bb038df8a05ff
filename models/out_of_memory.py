"""Telling a machine without memory from a network that is broken; torch is not imported for it."""

from __future__ import annotations

# What torch's allocator on the CPU says in a RuntimeError like any other (c10/core/impl/alloc_cpu.cpp); then what the
# libraries of a GPU say.
_SAID_FOR_WANT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that the machine or its GPU had no memory left, and nothing about the program.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes do not fit"))
    (True, False)
    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."))
    True
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID_FOR_WANT_OF_MEMORY)
