"""The example traces and fleets that come with the package.

Decides where they lie: inside the package once installed, in examples/ in a checkout; must never know what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path


@contextmanager
def example_files(*names: str) -> Iterator[tuple[Path, ...]]:
    """Paths of examples, `traces/day-60.parquet`, that hold while the context does."""
    with ExitStack() as held:
        yield tuple(held.enter_context(as_file(_folder().joinpath(name))) for name in names)


def _folder() -> Traversable:
    packaged = files("runtime").joinpath("examples")
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).parents[1] / "examples"
    assert checkout.is_dir(), "the examples are in the wheel, or beside the packages of a checkout"
    return checkout
