"""The walls of the house hold: a forbidden import, added to a copy, fails `lint-imports`, inside a function as well."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = [
    pytest.param("billing/report.py", "    import stripe", "Stripe's SDK only", id="vendor in billing"),
    pytest.param("cli/doctor.py", "    import slack_sdk", "Slack's SDK only", id="vendor in a command"),
    pytest.param("defs/digest.py", "    import stripe", "Stripe's SDK only", id="vendor in defs"),
    pytest.param("defs/notices.py", "    import pagerduty", "PagerDuty's SDK only", id="PagerDuty in defs"),
    pytest.param("channels/http.py", "    import notion_client", "Notion's SDK only", id="Notion in another channel"),
    pytest.param("channels/slack/files.py", "    import stripe", "Stripe's SDK only", id="another vendor's SDK"),
    pytest.param(
        "messages/digest.py",
        "    from orchestration.channels.slack import blocks",
        "What is said and what is billed know no channel",
        id="channel in messages",
    ),
    pytest.param(
        "billing/catalog.py",
        "    from orchestration.channels import stripe",
        "What is said and what is billed know no channel",
        id="channel in billing",
    ),
    pytest.param(
        "channels/slack/channel.py",
        "    from orchestration.channels.stripe import meter",
        "Channels do not know each other",
        id="channel in another channel",
    ),
    pytest.param("ledger/outbox.py", "    import dagster", "Dagster only", id="Dagster in the ledger"),
    pytest.param(
        "usage/units.py", "    from orchestration.warehouse import queries", "Arrows point one way", id="arrow back up"
    ),
    pytest.param(
        "messages/weekly.py",
        "    from orchestration.billing import report",
        "Arrows point one way",
        id="billing in messages",
    ),
    pytest.param("finance.py", "    pass", "Arrows point one way", id="module in no layer"),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code and of its contracts."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(
        ROOT / "orchestration", folder / "orchestration", ignore=shutil.ignore_patterns("__pycache__", "snippets")
    )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def check(house: Path) -> subprocess.CompletedProcess[str]:
    """Import-linter on the copy, which it finds before the installed package."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"]
    environment = {"PYTHONPATH": str(house), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def broken(house: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By contract, what import-linter says of a copy in which everything forbidden was done at once."""
    copy = shutil.copytree(house, tmp_path_factory.mktemp("broken") / "house")
    for module, line, _ in (case.values for case in FORBIDDEN):
        with (copy / "orchestration" / str(module)).open("a") as file:
            file.write(f"\n\ndef forbidden() -> None:\n{line}\n")
    found = check(copy)
    assert found.returncode == 1, found.stdout
    _, *parts = re.split(r"\n(\S.*)\n-{5,}\n", found.stdout.rpartition("Broken contracts\n")[2])
    return {name: " ".join(said.split()) for name, said in zip(parts[::2], parts[1::2], strict=True)}


def test_walls_hold_as_the_code_is(house: Path) -> None:
    found = check(house)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(("module", "line", "contract"), FORBIDDEN)
def test_forbidden_import_breaks_its_contract(broken: dict[str, str], module: str, line: str, contract: str) -> None:
    [said] = [said for name, said in broken.items() if name.startswith(contract)]
    place = f"orchestration.{module.removesuffix('.py').replace('/', '.')}"
    imported = re.sub(r"^import |^from | import ", ".", line.strip()).strip(".")
    assert (f"- {place} -> {imported} (l." if "import" in line else f"- {place} (Since this contract") in said


def test_front_has_three_modules() -> None:
    assert sorted(path.name for path in (ROOT / "orchestration").glob("*.py")) == [
        "__init__.py",
        "definitions.py",
        "settings.py",
    ]


def test_no_module_is_longer_than_350_lines_without_a_reason() -> None:
    """A docstring that says "This module is long because …" is one."""
    long = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for path in sorted((ROOT / "orchestration").rglob("*.py"))
        if (count := len(path.read_text().splitlines())) > 350
        and "This module is long because" not in path.read_text().split('"""')[1]
    ]
    assert long == []
