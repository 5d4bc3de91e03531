"""Dagster's own commands in the clone, without `headroom` and without DAGSTER_HOME."""

import subprocess
import sys
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef

ROOT = Path(__file__).parents[1]


def test_dagster_dev_sends_no_telemetry(tmp_path: Path) -> None:
    """As it makes its storage: in a folder that goes with it, with the settings that are in the folder it runs in."""
    with DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path), config_dir=str(ROOT))) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled


def test_dg_is_installed_and_knows_the_project(tmp_path: Path) -> None:
    """`dg list defs` loads all that `headroom` loads, for 10 s; this is the rest of it."""
    command = [Path(sys.executable).with_name("dg"), "check", "toml"]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "VIRTUAL_ENV": str(Path(sys.executable).parents[1])}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (found.returncode, "All TOML configuration files are valid" in found.stdout) == (0, True), found
