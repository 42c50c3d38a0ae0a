"""Run one command and observe it from outside: seconds, memory, and what the rest of the machine did."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 1.0
"""Seconds between two looks at memory; each stops the process for some milliseconds, which short steps feel."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one process did."""

    wall_s: float
    """Seconds from start to exit."""
    to_weights_s: float | None
    """Seconds from start until the last weights file was complete; None where there is none."""
    peak_mb: float
    """Largest sum of proportional set sizes over the process and its children, sampled."""
    foreign_cpu: float
    """Mean number of CPUs that other processes kept busy meanwhile."""
    stdout: str


class CommandFailed(RuntimeError):
    """A contestant exited with an error; the message holds the end of its stderr."""


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], weights: str | None) -> Measured:
    """Run `command` in `cwd` and measure it.

    Args:
        command: program and arguments.
        cwd: a fresh folder, where the command leaves its files.
        env: the whole environment.
        weights: glob below `cwd` of what ends "time to saved weights"; the latest match counts.

    Raises:
        CommandFailed: the exit code was not 0, or no weights were found.
    """
    log = cwd / "stderr.txt"
    busy, began, clock = _busy_seconds(), time.perf_counter(), time.time()
    with log.open("w") as errors:
        process = subprocess.Popen(list(command), cwd=cwd, env=dict(env), stdout=subprocess.PIPE, stderr=errors, text=True)
        memory = _Memory(process.pid)
        memory.start()
        stdout = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        memory.stop()
    if process.returncode != 0:
        raise CommandFailed(f"{' '.join(command)} exited with {process.returncode}:\n{log.read_text()[-2000:]}")
    foreign = max(0.0, _busy_seconds() - busy - usage.ru_utime - usage.ru_stime) / wall
    written = [path.stat().st_mtime - clock for path in cwd.glob(weights)] if weights else []
    if weights and not written:
        raise CommandFailed(f"{' '.join(command)} left no {weights}")
    return Measured(
        wall_s=wall,
        to_weights_s=max(written, default=None),
        peak_mb=max(memory.peak_mb, usage.ru_maxrss / 1024 if not memory.peak_mb else 0.0),
        foreign_cpu=foreign,
        stdout=stdout,
    )


class _Memory(threading.Thread):
    """Samples the memory of a process tree until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak_mb = 0.0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(INTERVAL):
            self.peak_mb = max(self.peak_mb, sum(_pss_mb(pid) for pid in _tree(self.pid)))

    def stop(self) -> None:
        """End the sampling."""
        self._ended.set()
        self.join()


def _tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in _read(children).split()]
    return found


def _pss_mb(pid: int) -> float:
    """Return the proportional set size in MiB: shared pages count once over all processes; 0 when it has ended."""
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _read(path: Path) -> str:
    """Return a file of /proc; empty where its process has ended meanwhile."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _busy_seconds() -> float:
    """Return the CPU seconds that all processes together have used since boot (user, nice, system, irq)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
