"""What is wrong with somebody's input, told so that he can mend it.

Decides how a finding reads (`file:line: field=value must ...`); must never know what is being read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FINDINGS_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact about one place of an input, and what to do about it."""

    source: str  # file name as the user gave it, or a command line option
    message: str  # "end_s=3.0 must be > start_s=7.5"
    line: int | None = None  # counted from 1; None where the format has no lines

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.message}"


class BadInputError(Exception):
    """The user's input cannot be used; carries the findings, at most `FINDINGS_SHOWN_MAX` of `total`."""

    def __init__(self, findings: Sequence[Finding], total: int | None = None) -> None:
        assert findings, "an error without a finding helps nobody"
        self.findings = tuple(findings[:FINDINGS_SHOWN_MAX])
        self.total = len(findings) if total is None else total
        super().__init__(self._text())

    @classmethod
    def of(cls, source: str, message: str, line: int | None = None) -> BadInputError:
        """The common case of a single finding."""
        return cls([Finding(source=source, message=message, line=line)])

    def _text(self) -> str:
        lines = [str(finding) for finding in self.findings]
        if self.total > len(lines):
            lines.append(f"... and {self.total - len(lines)} more")
        return "\n".join(lines)
