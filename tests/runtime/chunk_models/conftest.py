"""Settings of the tests of ChunkModels.

Decides how many threads compute; must never know what is tested.
"""

from __future__ import annotations

import torch

torch.set_num_threads(1)  # tiny products: a second thread only waits, and longer where the machine is busy
