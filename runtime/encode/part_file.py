"""A file that gets its name when it is whole.

Decides its temporary name and when it is kept; must never know what is in it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class PartFile:
    """Written under a hidden name beside `path`, in the same folder, so that it can be renamed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        self.stream = self._temporary.open("wb")

    def close(self, *, keep: bool) -> None:
        """Give it its name, or remove it. The second time, nothing happens."""
        if self.stream.closed:
            return
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        if keep:
            os.replace(self._temporary, self._path)
        else:
            with suppress(FileNotFoundError):
                self._temporary.unlink()
