"""`python -m pretune` is the command `pretune`; torchrun needs it."""

import sys

from pretune.cli import main

sys.exit(main())
