"""An independent check of a plan: recomputes what it claims from trace, fleet and tables alone.

Decides whether a plan is what it says it is; must never know how it was found, nor use what found it.
"""

from scheduler.verify.verdict import Verdict, verify

__all__ = ["Verdict", "verify"]
