"""Not made yet."""

from orchestration.pages.asking import Asked, Page


def page(asked: Asked, account_id: str) -> Page:
    return Page("customer", account_id, {}, account_id)
