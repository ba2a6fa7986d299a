"""Runs a command until it ends or whoever started it is gone, killed or not.

``python _tether.py COMMAND ...`` with a pipe as its input: when the pipe closes, the command is
asked to end. A server that holds a card must not outlive the process that it answers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

_CLOSED = 124  # exit status after the pipe closed
_GRACE_SECONDS = 25.0


def main() -> None:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    closed = threading.Event()

    def wait_for_the_end() -> None:
        os.read(0, 1)  # nobody writes: returns when the other side is closed
        closed.set()
        child.terminate()
        try:
            child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    status = child.wait()
    # A signal is told as the shell does.
    sys.exit(_CLOSED if closed.is_set() else status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
