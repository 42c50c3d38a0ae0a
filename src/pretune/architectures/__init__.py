"""Networks of our own: plain nn.Modules that know nothing of data or tasks."""

from pretune.architectures._base import Architecture, Network

__all__ = ["Architecture", "Network"]
