"""The example of the gate on FastAPI: the story of tests/e2e/test_gate.py, test by test."""

import pytest

from tests.clients.installed import NotInstalledError
from tests.clients.producer import DRIVERS
from tests.clients.test_examples import FASTAPI
from tests.e2e import test_gate as story

pytestmark = pytest.mark.clients

root, place = story.root, story.place


@pytest.fixture(scope="module")
def api() -> story.Api:
    try:
        packages = FASTAPI.install()
    except NotInstalledError as reason:
        pytest.skip(f"FastAPI cannot be installed: {reason}")
    return story.Api("gate_fastapi:app", (packages, DRIVERS, story.EXAMPLES))


# In this order: they follow one another.
test_fastapi_hard_quota_refuses_and_soft_one_says_how_far_over = (
    story.test_hard_quota_refuses_and_soft_one_says_how_far_over
)
test_fastapi_upgrade_opens_the_gate_with_the_next_snapshot = story.test_upgrade_opens_the_gate_with_the_next_snapshot
test_fastapi_killed_gate_loses_nothing_that_it_has_answered = story.test_killed_gate_loses_nothing_that_it_has_answered
test_fastapi_bill_has_what_was_let_through = story.test_bill_has_what_was_let_through_and_error_rates_the_rest
