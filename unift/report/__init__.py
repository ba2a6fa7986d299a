"""Reports: one self-contained HTML page that answers "was it worth it?".

Renders plain documents (the ``--json`` shapes) and the events of a run. It computes no result of
its own, so whoever has results can call it.
"""

from unift.report._curves import Curves, read_curves
from unift.report._estimate_page import write_estimate
from unift.report._evaluation_markdown import evaluation_markdown
from unift.report._format import plain
from unift.report._migration import migration_markdown, migration_page
from unift.report._page import save, write_report
from unift.report._vote import vote_page

__all__ = [
    "Curves",
    "evaluation_markdown",
    "migration_markdown",
    "migration_page",
    "plain",
    "read_curves",
    "save",
    "vote_page",
    "write_estimate",
    "write_report",
]
