"""Which parameters learn, and how fast: one file per strategy."""

from pretune.strategies._base import Defaults, Phase, Strategy, groups, suggested, unread

__all__ = ["Defaults", "Phase", "Strategy", "groups", "suggested", "unread"]
