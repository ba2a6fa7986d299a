"""`python -m unift` is `unift`."""

from unift.cli import main

main()
