"""The picture that people look at: one self-contained page of an offline plan, and its pictures as PNG.

Decides what can be asked for (`render_report`, `render_pngs`); must never know where the result is written.
"""

from scheduler.report.page import render_report
from scheduler.report.png import render_pngs

__all__ = ["render_pngs", "render_report"]
