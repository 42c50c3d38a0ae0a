"""Run one command and observe it from outside: seconds, CPU seconds, memory, and what the rest of the machine did.

Memory is what the kernel itself recorded (`ru_maxrss` of `wait4`), so that nothing is sampled while a contestant runs.
It is the peak of the largest single process of the tree. This module imports the standard library only: on Linux a
child's peak begins with that of the process that started it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one process and its children did."""

    wall_s: float
    """Seconds from start to exit."""
    cpu_s: float
    """CPU seconds, user and system, of the process and the children it waited for."""
    peak_mb: float
    """Peak resident memory in MiB of the largest process of the tree."""
    foreign_cpu: float
    """Mean number of CPUs that other processes kept busy meanwhile."""
    stdout: str


class CommandFailed(RuntimeError):
    """A contestant exited with an error; the message holds the end of its stderr."""


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Measured:
    """Run `command` in `cwd` and measure it.

    Args:
        command: program and arguments.
        cwd: a fresh folder, where the command leaves its files.
        env: the whole environment.

    Raises:
        CommandFailed: the exit code was not 0.
    """
    log = cwd / "stderr.txt"
    busy, began = _busy_seconds(), time.perf_counter()
    with log.open("w") as errors:
        process = subprocess.Popen(list(command), cwd=cwd, env=dict(env), stdout=subprocess.PIPE, stderr=errors, text=True)
        stdout = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise CommandFailed(f"{' '.join(command)} exited with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Measured(
        wall_s=wall,
        cpu_s=cpu,
        peak_mb=usage.ru_maxrss / 1024,
        foreign_cpu=max(0.0, _busy_seconds() - busy - cpu) / wall,
        stdout=stdout,
    )


def _busy_seconds() -> float:
    """Return the CPU seconds that all processes together have used since boot (user, nice, system, irq)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
