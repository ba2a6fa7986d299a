"""Starting the worker so that nothing that happens to the caller reaches it."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

from unift.errors import RunError
from unift.provider import Plan
from unift_local.rundir import STARTING, RunDir

_children: set[int] = set()
#: Set by launchers of distributed jobs; a worker that sees them would wait for its peers.
_DISTRIBUTED = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)


def start(run: RunDir) -> None:
    """Start the worker of a run unless one lives; returns at once.

    The lock is taken here and handed to the worker, so that there is no moment in which a run that
    was started looks dead.
    """
    lock = run.take_lock()
    if lock is None:
        return
    try:
        for leftover in (run.cancel_file, run.pause_file, run.exit_file, run.pid_file):
            leftover.unlink(missing_ok=True)
        run.write_status(STARTING)
        inherited = 3 if lock != 3 else 4
        command = [sys.executable, "-m", "unift_local.worker", str(run.folder), str(inherited)]
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            sys.executable,
            command,
            environment(run.plan()),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, lock, inherited),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(run.log_file), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,  # a Ctrl-C or a hang-up of the caller's terminal ends with the caller
        )
    except OSError as error:
        raise RunError(
            f"The worker cannot be started: {error}.", where=str(run.folder), fix="resume the run"
        ) from error
    finally:
        os.close(lock)
    _children.add(pid)


def wait_politely(env: MutableMapping[str, str]) -> None:
    """Let OpenMP threads spin only briefly while they wait, unless the user chose otherwise.

    By default they spin for long, and on cores shared with anything else they then burn the time
    slices of the very threads they wait for; if they sleep at once, waking up costs more than a
    small model gains from a second core. Measured on 2 cores (2026-11-24, torch 2.13 with libgomp,
    2.9 M weights, LoRA, 500 tokens a pass), ms a pass on idle cores and beside two busy loops:
    asleep at once (OMP_WAIT_POLICY=PASSIVE) 266 and 382; 2,000 spins 183 and 427; the default 169
    and up to 20 times slower. OpenMP reads it when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in env:
        env.setdefault("GOMP_SPINCOUNT", "2000")


def keep_memory(env: MutableMapping[str, str]) -> None:
    """Let glibc keep up to a GiB of what was freed, unless the user chose otherwise.

    By default it hands the top of the heap back in every step, and the next one pays for every page
    again. Without that a step of the demo takes 0.94 of the processor time, and peak memory stays
    (2026-11-25, one thread, in turn: 147, 147 and 137, 138 ms). 32 MiB is where glibc's own
    limit for blocks outside the heap ends up anyway; as one of the two is set, it would stay low.
    """
    env.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))
    env.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))


def reap() -> None:
    """Collect workers of this process that ended, so that they do not stay as zombies."""
    for pid in list(_children):
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            done = pid
        if done:
            _children.discard(pid)


def environment(plan: Plan) -> dict[str, str]:
    """The worker's environment: threads and device fixed, library chatter and telemetry off."""
    threads = str(plan.value("threads"))
    env = {key: value for key, value in os.environ.items() if key not in _DISTRIBUTED}
    wait_politely(env)
    env.update(
        OMP_NUM_THREADS=threads,
        MKL_NUM_THREADS=threads,
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        PYTHONUNBUFFERED="1",
    )
    if plan.value("device") == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
        keep_memory(env)
    else:
        # One process, one card: with several in sight the trainer would wrap the model in
        # DataParallel.
        env["CUDA_VISIBLE_DEVICES"] = env.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
        env.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    return env
