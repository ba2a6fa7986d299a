"""A whole migration, offline: a vendor on this machine, inventory to report with one command.

    python run.py [FOLDER] [--script]

FOLDER (default: ./migration) gets the vendor, the run store and the report. A second start goes on
where the first one stopped and trains nothing again. With --script the rest is done by the script
that the plan has written, instead of by `unift migrate run`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vendor import vendor


def main(folder: Path, by_script: bool) -> int:
    folder = folder.absolute()
    with vendor(folder / "vendor") as running:
        template = Path(__file__).with_name("migration.yaml").read_text()
        file = folder / "migration.yaml"
        file.write_text(template.replace("OLD_MODEL", running.model))
        environment = {
            **os.environ,
            **running.environment,
            "UNIFT_HOME": str(folder / "home"),
            "HF_HUB_OFFLINE": "1",
        }
        unift = [sys.executable, "-m", "unift", "migrate"]
        if not by_script:
            return subprocess.run([*unift, "run", str(file)], env=environment).returncode
        subprocess.run([*unift, "plan", str(file)], env=environment, check=True)
        script = folder / "home" / "migrations" / "support" / "migrate.py"
        return subprocess.run([sys.executable, str(script)], env=environment).returncode


if __name__ == "__main__":
    given = [one for one in sys.argv[1:] if not one.startswith("--")]
    sys.exit(main(Path(given[0] if given else "migration"), "--script" in sys.argv))
