"""The hooks of .pre-commit-config.yaml run the tools of the environment, fetch nothing, and stop a bad commit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / ".pre-commit-config.yaml"
PROGRAMS = Path(sys.executable).parent
REPOSITORIES: list[dict[str, Any]] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["repos"]
HOOKS: list[dict[str, Any]] = [hook for repository in REPOSITORIES for hook in repository["hooks"]]


def test_nothing_is_fetched() -> None:
    assert {repository["repo"] for repository in REPOSITORIES} == {"local"}
    assert {hook["language"] for hook in HOOKS} == {"system"}


@pytest.mark.parametrize("hook", HOOKS, ids=[hook["id"] for hook in HOOKS])
def test_program_of_the_hook_is_in_the_environment_and_in_make_lint(hook: dict[str, Any]) -> None:
    program, *_ = hook["entry"].split()
    folder, _, name = program.rpartition("/")

    assert folder == ".venv/bin"
    assert os.access(PROGRAMS / name, os.X_OK)
    assert f"$(BIN)/{name} " in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(("code", "is_stopped"), [("import os\n", True), ("WORD = 1\n", False)])
def test_commit_is_stopped_by_what_a_linter_finds(code: str, is_stopped: bool, tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(PROGRAMS)
    for file in (CONFIG, ROOT / "pyproject.toml"):
        shutil.copy(file, tmp_path)
    (tmp_path / "module.py").write_text(code)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PRE_COMMIT_HOME": str(tmp_path / "hooks")}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert run("git", "init", "--quiet").returncode == 0
    assert run("git", "add", "module.py", CONFIG.name).returncode == 0
    done = run(str(PROGRAMS / "pre-commit"), "run")

    assert (done.returncode != 0) == is_stopped, done.stdout + done.stderr
    assert ("F401" in done.stdout) == is_stopped
