"""Keeping freed memory: fewer page faults within, back to the system after."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from pretune.kernels import memory
from pretune.kernels.memory import kept_memory

SCRIPT = """
import resource, torch
from pretune.kernels.memory import kept_memory

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        x = torch.ones(48 << 20, dtype=torch.uint8)
        del x
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

with kept_memory():
    faults(12)
    kept = faults(5)
    before = resident()
after = resident()
print(kept, faults(5), before - after > 40 << 20)
"""


@pytest.mark.skipif(memory._glibc() is None, reason="the C library is not glibc")
def test_freed_blocks_are_reused_and_given_back() -> None:
    out = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout.split()
    kept, usual = int(out[0]), int(out[1])
    assert kept < usual / 20
    assert out[2] == "True"


@pytest.mark.parametrize("other", ["musl", "windows"])
def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    called: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda option, value: called.append((option, value)))

    def load(name: str | None) -> SimpleNamespace:
        if other == "windows":
            raise TypeError("a library has no name")
        return library

    monkeypatch.setattr(memory.ctypes, "CDLL", load)
    with kept_memory():
        assert called == []
    assert called == []
    library.gnu_get_libc_version, library.malloc_trim = None, lambda _: None
    if other == "musl":
        with kept_memory():
            assert len(called) == 3, "glibc it would have asked"
