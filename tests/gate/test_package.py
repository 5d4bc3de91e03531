"""The gate is a package of its own: an API installs it without Headroom."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "gate"
MODULES = sorted((FOLDER / "headroom_gate").glob("*.py"))
ALLOWED = {"headroom_gate", "limits"}
WITH_REDIS = {"redis_counter.py"}


def imported(module: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("module", MODULES, ids=[module.name for module in MODULES])
def test_gate_imports_its_own_dependencies_alone(module: Path) -> None:
    allowed = ALLOWED | ({"redis"} if module.name in WITH_REDIS else set())
    assert imported(module) - set(sys.stdlib_module_names) <= allowed


def test_gate_declares_what_it_imports() -> None:
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    assert [each.partition(">")[0] for each in project["dependencies"]] == ["limits"]
    assert [each.partition(">")[0] for each in project["optional-dependencies"]["redis"]] == ["redis"]


def test_gate_runs_without_redis_and_headroom() -> None:
    program = (
        "import sys; sys.modules['redis'] = sys.modules['orchestration'] = None\n"
        "import headroom_gate, headroom_gate.asgi, headroom_gate.wsgi, headroom_gate.check, headroom_gate.spool\n"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False).stderr == ""


def test_modules_of_the_gate_are_short() -> None:
    assert {module.name: lines for module in MODULES if (lines := len(module.read_text().splitlines())) > 200} == {}


def test_subject_of_a_key_comes_from_the_command() -> None:
    command = [sys.executable, "-m", "headroom_gate"]
    found = subprocess.run(command, cwd=FOLDER, input="sk_live_4711\n", capture_output=True, text=True, check=True)
    from headroom_gate import subject_of_key

    assert found.stdout == f"{subject_of_key('sk_live_4711')}\n"


def test_docs_show_the_example_as_it_is() -> None:
    example = FOLDER.parent / "orchestration" / "collector" / "snippets" / "examples" / "gate_main.py"
    assert f"```python\n{example.read_text()}```" in (FOLDER.parent / "docs" / "gate" / "index.md").read_text()
