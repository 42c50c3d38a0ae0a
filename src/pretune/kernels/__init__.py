"""Shortcuts that depend on the processor or on PyTorch's private operations, each behind a trial and one switch.

Each equals a plain operation, which runs wherever the trial failed or `PRETUNE_KERNELS=plain` is set.
"""

from pretune.kernels._shortcut import SWITCH, Shortcut, enabled, plain
from pretune.kernels.attention import written_out_attention
from pretune.kernels.clamp import output_clamp
from pretune.kernels.convolution import fused_convolution
from pretune.kernels.depthwise import written_out_depthwise
from pretune.kernels.recurrence import autocast_lstm

SHORTCUTS: tuple[Shortcut, ...] = (fused_convolution, written_out_depthwise, written_out_attention, output_clamp, autocast_lstm)
"""All that need a trial."""

__all__ = ["SHORTCUTS", "SWITCH", "Shortcut", "enabled", "plain"]
