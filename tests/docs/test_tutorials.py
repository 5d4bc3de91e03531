"""What the pages show is what happens: their console blocks run here, and answer as the page says.

`start.md` begins with nothing. The other pages begin with a copy of what it left behind.
"""

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.docs.clone import NOW, Answer, Clone, again
from tests.docs.tutorial import is_answered, steps
from tests.fakes.stripe_catalog import CatalogStripe

START = "docs/start.md"
PAGES = ["README.md", *sorted(str(path.relative_to(PROJECT_ROOT)) for path in (PROJECT_ROOT / "docs").rglob("*.md"))]
STEPS = {page: found for page in PAGES if (found := steps(PROJECT_ROOT / page))}


@dataclass(frozen=True)
class Started:
    """start.md was followed: where, what was said, and a copy of the data that it left behind."""

    clone: Clone
    answers: list[Answer]
    data: Path


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Started:
    folder = tmp_path_factory.mktemp("start")
    with sandbox() as stripe:
        clone = Clone(folder / "headroom", {"STRIPE_API_BASE": stripe.url})
        answers = clone.follow(STEPS[START])
    return Started(clone, answers, Path(shutil.copytree(clone.data, folder / "data")))


def sandbox() -> CatalogStripe:
    """Stripe with the customers of the sample and nothing else."""
    stripe = CatalogStripe()
    stripe.clock = datetime.fromisoformat(NOW).timestamp
    stripe.keys["sk_test_YOUR_KEY"] = None
    for customer in ("cus_globex", "cus_initech"):
        stripe.add_customer(customer)
    return stripe


@pytest.mark.parametrize("page", STEPS)
def test_page_shows_what_its_commands_do(page: str, started: Started) -> None:
    if page == START:
        check(page, started.clone, started.answers)
        return
    with sandbox() as stripe:
        clone = again(started.clone, started.data, STRIPE_API_BASE=stripe.url)
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
