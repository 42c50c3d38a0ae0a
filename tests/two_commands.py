"""Commands one after the other in each process of torchrun."""

from __future__ import annotations

import json
import sys

from pretune.cli import main

if __name__ == "__main__":
    for command in json.loads(sys.argv[1]):
        if code := main(command):
            sys.exit(code)
