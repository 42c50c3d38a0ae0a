"""The command line: `pretune VERB [DATA|RUN] [recipe.toml] [key=value …] [--json] [--offline]`."""

from pretune.cli.main import main

__all__ = ["main"]
