"""Settings of the whole test suite.

Decides how thoroughly hypothesis searches; must never know what is tested.
"""

from __future__ import annotations

import os

from hypothesis import settings

# ci: the same examples in every run, so that a red gate can be repeated; dev: new ones each time.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=100, database=None, print_blob=True)
settings.register_profile("dev", deadline=None, max_examples=50)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
