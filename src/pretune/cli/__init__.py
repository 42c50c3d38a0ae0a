"""The command line: `pretune COMMAND [DATA|RUN] [recipe.toml] [key=value …] [--json] [--offline]`."""

import sys

try:
    from pretune.cli.main import command, main
except KeyboardInterrupt:  # Ctrl-C in the tenth of a second before there is anybody to catch it
    sys.stderr.write("pretune: stopped before anything was done\n")
    raise SystemExit(130) from None

__all__ = ["command", "main"]
