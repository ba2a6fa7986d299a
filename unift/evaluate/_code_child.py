"""Runs one answer with its tests; started by `_code` as a process of its own, never imported.

Reads one JSON line (``code``, ``tests``, ``token``, ``result``: a file descriptor, ``home``,
``limits``: pairs of a name in `resource` and a number) and writes one to ``result``:
``{"token": ..., "why": ""}`` once every test has passed, else only ``why``. Whoever leaves early,
``sys.exit(0)`` included, has not written the token.
"""

from __future__ import annotations

import json
import linecache
import os
import resource
import sys
import types

_PROCESS = ("os.exec", "os.fork", "os.kill", "os.posix_spawn", "os.spawn", "os.startfile",
            "os.system", "pty.spawn", "subprocess.Popen")  # fmt: skip
_NETWORK = ("socket.bind", "socket.connect", "socket.gethost", "socket.getaddrinfo", "socket.send")
_CHANGE = ("os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
           "os.symlink", "os.truncate", "os.utime", "shutil.rmtree")  # fmt: skip
_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _guard(home: str) -> None:
    """Refuse processes, network, writing elsewhere and reading the home folder (PEP 578).

    It stops honest mistakes on every system; code that means harm gets around it.
    """
    real, separator = os.path.realpath, os.sep
    own = real(os.getcwd())
    python = [real(one) for one in (sys.prefix, sys.base_prefix, *sys.path)]
    home = real(home)

    def within(path: str, folder: str) -> bool:
        return path == folder or path.startswith(folder.rstrip(separator) + separator)

    def check(event: str, values: tuple[object, ...]) -> None:
        if event.startswith((*_PROCESS, *_NETWORK)):
            raise PermissionError(f"{event} is not allowed here")
        changes = event in _CHANGE
        if not (changes or event in ("open", "os.listdir", "os.scandir")):
            return
        if event == "open":
            flags = values[2]
            changes = isinstance(flags, int) and bool(flags & _WRITE)
        paths = values[:2] if event in ("os.link", "os.rename", "os.symlink") else values[:1]
        for value in paths:
            if not isinstance(value, str | bytes):
                continue
            path = real(os.fsdecode(value))
            if within(path, own) or path == os.devnull:
                continue
            private = home != separator and within(path, home)
            if changes or (private and not any(within(path, one) for one in python)):
                raise PermissionError(f"{event} of {path} is not allowed here")

    sys.addaudithook(check)


def main() -> None:
    job = json.loads(sys.stdin.buffer.readline())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, most in job["limits"]:
        if hasattr(resource, name):
            try:
                resource.setrlimit(getattr(resource, name), (most, most))
            except (OSError, ValueError):  # macOS refuses some of them
                continue
    sys.dont_write_bytecode = True
    # A module that can be found by name: dataclasses and pickle look for it. Not "__main__", so
    # that an answer's own `if __name__ == "__main__":` stays silent.
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    _guard(job["home"])
    try:
        for name in ("code", "tests"):
            text = job[name]
            linecache.cache[f"<{name}>"] = (len(text), None, text.splitlines(True), f"<{name}>")
            exec(compile(text, f"<{name}>", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:  # noqa: BLE001 - code of others may raise anything
        said = {"why": type(error).__name__}
    else:
        said = {"token": job["token"], "why": ""}
    os.write(job["result"], json.dumps(said).encode())
    os._exit(0)  # threads of the answer may never end


if __name__ == "__main__":
    main()
