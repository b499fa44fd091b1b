"""Settings of the tests of controllers.

Decides how many threads compute; must never know what is tested.
"""

from __future__ import annotations

import torch

torch.set_num_threads(1)  # worker processes compute too: a second thread waits longer than it helps
