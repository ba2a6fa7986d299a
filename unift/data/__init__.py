"""Training data: reading it, checking it, counting its tokens."""

from unift.data._chat import ChatCopy, chat_copy
from unift.data._compare import Diff, Stats, diff, stats
from unift.data._convert import Converted, convert
from unift.data._examples import Example, count_rows, fingerprint, read_examples
from unift.data._finding import Finding, Report
from unift.data._split import PARTS, Split, split
from unift.data._validate import validate
from unift.data.codes import Code, codes, explain

__all__ = [
    "PARTS",
    "ChatCopy",
    "Code",
    "Converted",
    "Diff",
    "Example",
    "Finding",
    "Report",
    "Split",
    "Stats",
    "chat_copy",
    "codes",
    "convert",
    "count_rows",
    "diff",
    "explain",
    "fingerprint",
    "read_examples",
    "split",
    "stats",
    "validate",
]
