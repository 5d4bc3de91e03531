"""What the pages show is what happens: their console blocks run here, and answer as the page says.

`start.md` begins with nothing. The other pages begin with a copy of what it left behind.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.docs.clone import NOW, Answer, Clone, copy
from tests.docs.tutorial import Step, is_answered, steps
from tests.fakes.stripe_catalog import CatalogStripe

START = "docs/start.md"
PAGES = ["README.md", *sorted(str(path.relative_to(PROJECT_ROOT)) for path in (PROJECT_ROOT / "docs").rglob("*.md"))]
STEPS = {page: found for page in PAGES if (found := steps(PROJECT_ROOT / page))}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Clone, list[Answer]]]:
    """The clone in which start.md was followed, and what it said."""
    with stripe() as sandbox:
        clone = Clone(tmp_path_factory.mktemp("start") / "headroom", {"STRIPE_API_BASE": sandbox.url})
        yield clone, clone.follow(STEPS[START])


def stripe() -> CatalogStripe:
    """A sandbox with the customers of the sample and nothing else."""
    sandbox = CatalogStripe()
    sandbox.clock = datetime.fromisoformat(NOW).timestamp
    sandbox.keys["sk_test_YOUR_KEY"] = None
    for customer in ("cus_globex", "cus_initech"):
        sandbox.add_customer(customer)
    return sandbox


@pytest.mark.parametrize("page", STEPS)
def test_page_shows_what_its_commands_do(page: str, started: tuple[Clone, list[Answer]], tmp_path: Path) -> None:
    if page == START:
        check(page, *started)
        return
    with stripe() as sandbox:
        clone = copy(started[0].data, tmp_path / "headroom", {"STRIPE_API_BASE": sandbox.url})
        check(page, clone, clone.follow(STEPS[page]))


def check(page: str, clone: Clone, answers: list[Answer]) -> None:
    assert len(answers) == len(STEPS[page]), "the shell ended before the page did"
    faults = [
        f"{page}:{step.line}: {step.command}\n--- shown:\n{step.answer}\n--- said, with status {answer.status}:\n{said}"
        for step, answer in zip(STEPS[page], answers, strict=True)
        for said in [clone.shown(answer.text)]
        if not (is_answered(step.answer, said) if step.answer else answer.status == 0)
    ]
    assert not faults, "\n\n".join(faults)
