"""`python -m pretune` is the command `pretune`; torchrun needs it."""

from pretune.cli import command

command()
