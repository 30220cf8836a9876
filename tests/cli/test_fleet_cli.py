"""``blemish fleet`` as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fleet.grids import SETTINGS, save_product

TINY = ";".join(f"{name}={value}" for name, value in SETTINGS.items() if value is not None)


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "blemish", "fleet", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_a_plan_with_a_failure_ends_with_2_and_the_list(tmp_path: Path) -> None:
    save_product(tmp_path / "bolt")
    broken = save_product(tmp_path / "bad") / "train" / "good" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    rows = ["name,data,device,set", f'bolt,bolt,cpu,"{TINY}"', f'bad,bad,cpu,"{TINY}"']
    (tmp_path / "plan.csv").write_text("\n".join(rows))
    result = run("fit", "plan.csv", "--out", "fleet", "--jobs", "2", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stdout == "1 of 2 done; results in fleet\n"
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        "blemish: 1 failed, which the same command tries again: bad (1 of 12 images cannot be used"
    )
    assert (tmp_path / "fleet" / "bolt" / "detector.blemish").exists()
    only = run("fit", "plan.csv", "--out", "fleet", "--only", "bolt", cwd=tmp_path)
    assert (only.returncode, only.stdout) == (0, "1 of 1 done; results in fleet\n")
    status = run("status", "fleet", cwd=tmp_path)
    assert status.returncode == 0
    assert "1 of 2 done, 0 running, 1 failed, 0 left" in status.stdout


def test_mistakes_are_a_line(tmp_path: Path) -> None:
    result = run("status", tmp_path, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"blemish: {tmp_path}: holds no plan.json; give the --out of `blemish fleet fit`\n"


def test_status_does_not_import_torch() -> None:
    code = "import sys, blemish.commands.fleet, blemish.fleet.clusters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
