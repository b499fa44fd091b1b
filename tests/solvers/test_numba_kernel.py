"""When compiled kernels may be taken from the disk."""

from pathlib import Path

import pytest

from solvers.numba_kernel import sources_digest


@pytest.mark.parametrize(
    ("changed", "compiled_again"),
    [("inner.py", True), ("plain.py", False)],
)
def test_kernels_are_compiled_again_only_after_a_change_of_a_kernel_module(
    tmp_path: Path, changed: str, compiled_again: bool
) -> None:
    (tmp_path / "inner.py").write_text("from solvers.numba_kernel import inner\n")
    (tmp_path / "plain.py").write_text("import math\n")
    before = sources_digest(tmp_path)
    with (tmp_path / changed).open("a") as file:
        file.write("LIMIT = 5\n")
    sources_digest.cache_clear()
    assert (sources_digest(tmp_path) != before) == compiled_again
