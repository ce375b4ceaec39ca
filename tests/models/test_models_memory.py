"""Out of memory: what counts as it, and attempts with less work at once."""

from __future__ import annotations

import numpy as np
import pytest

from napari_blockbuster.models.networks.memory import is_out_of_memory, reason_of, retry_in_memory


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


class Batched:
    """Work that needs memory for each item of a batch."""

    def __init__(self, batch: int, room: int) -> None:
        self.batch, self.room, self.tried = batch, room, []

    def __call__(self) -> int:
        self.tried.append(self.batch)
        if self.batch > self.room:
            raise OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 TiB")
        return self.batch

    def halve(self) -> bool:
        if self.batch == 1:
            return False
        self.batch //= 2
        return True


def test_work_shrinks_until_it_fits() -> None:
    work = Batched(8, room=2)
    assert retry_in_memory(work, work.halve, str) == 2
    assert work.tried == [8, 4, 2]


def test_work_that_never_fits_is_a_memory_error_with_its_reason() -> None:
    work = Batched(4, room=0)
    with pytest.raises(MemoryError, match=r"^too much \(CUDA out of memory\.\)$"):
        retry_in_memory(work, work.halve, lambda reason: f"too much ({reason})")
    assert work.tried == [4, 2, 1]


def test_other_errors_are_raised_at_once() -> None:
    def broken() -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        retry_in_memory(broken, lambda: pytest.fail("no reason to shrink"), str)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (np._core._exceptions._ArrayMemoryError((9,), np.dtype(float)), True),
        (OutOfMemoryError("CUDA"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("the label image ran out of memory numbers"), False),
    ],
)
def test_lack_of_memory_is_recognized(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_the_reason_is_the_line_that_names_the_cause() -> None:
    assert reason_of(RuntimeError("CUDA out of memory.\nat x.py")) == "CUDA out of memory."
    script = "The following operation failed in the TorchScript interpreter.\nTraceback:\nRuntimeError: out of memory"
    assert reason_of(RuntimeError(script)) == "RuntimeError: out of memory"
    assert reason_of(MemoryError()) == "MemoryError"
