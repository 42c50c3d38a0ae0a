"""The command line: `pretune VERB [DATA|RUN] [recipe.toml] [key=value …] [--json] [--offline]`."""

import sys

try:
    from pretune.cli.main import main
except KeyboardInterrupt:  # Ctrl-C in the tenth of a second before there is anybody to catch it
    sys.stderr.write("pretune: stopped before anything was done\n")
    raise SystemExit(130) from None

__all__ = ["main"]
