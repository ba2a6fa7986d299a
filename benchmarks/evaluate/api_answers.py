"""How close `unift evaluate` comes to the ideal time of a slow API, and what CPU an answer costs.

A stand-in in another process answers after 50 ms. The ideal is answers x latency / concurrency; on
two cores stand-in and client need one each, so look at the load average first.

    python benchmarks/evaluate/api_answers.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVER = Path(__file__).parents[2] / "tests" / "evaluate" / "counting_server.py"
LATENCY, ANSWERS = 0.05, 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["UNIFT_HOME"] = scratch
        data = Path(scratch) / "rows.jsonl"
        with data.open("w") as file:
            for i in range(ANSWERS):
                turns = [("user", f"q{i}"), ("assistant", f"answer to q{i}")]
                row = {"messages": [{"role": role, "content": text} for role, text in turns]}
                file.write(json.dumps(row) + "\n")
        command = [sys.executable, str(SERVER), str(LATENCY)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            measure(f"http://127.0.0.1:{int(server.stdout.readline())}/v1#m", str(data))
        finally:
            server.kill()
            server.wait()


def measure(model: str, data: str) -> None:
    from unift.evaluate import evaluate

    evaluate(model, data, against=[], limit=8, report=False)  # imports
    print(f"load average before: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    print("| at once | seconds | ideal | ratio | CPU ms of the client an answer |")
    print("| --- | --- | --- | --- | --- |")
    for at_once in (8, 16, 32):
        began, worked = time.perf_counter(), time.process_time()
        evaluate(model, data, against=[], concurrency=at_once, reuse=False, report=False)
        wall, cpu = time.perf_counter() - began, time.process_time() - worked
        ideal = ANSWERS * LATENCY / at_once
        print(
            f"| {at_once} | {wall:.2f} | {ideal:.2f} | {wall / ideal:.2f} | "
            f"{cpu / ANSWERS * 1000:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
