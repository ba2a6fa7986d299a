"""Training data: reading it, checking it, counting its tokens."""

from unift.data._convert import Converted, convert
from unift.data._examples import Example, count_rows, fingerprint, read_examples
from unift.data._finding import Finding, Report
from unift.data._validate import validate
from unift.data.codes import Code, codes, explain

__all__ = [
    "Code",
    "Converted",
    "Example",
    "Finding",
    "Report",
    "codes",
    "convert",
    "count_rows",
    "explain",
    "fingerprint",
    "read_examples",
    "validate",
]
