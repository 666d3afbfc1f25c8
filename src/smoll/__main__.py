"""``python -m smoll`` is the command ``smoll``."""

from __future__ import annotations

import sys

from smoll.cli import main

sys.exit(main())
