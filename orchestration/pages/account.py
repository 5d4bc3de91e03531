"""Not made yet."""

from orchestration.pages.asking import Asked, Page, Table


def page(asked: Asked, account_id: str) -> Page:
    return Page("account", account_id, {}, account_id)


def table(asked: Asked, account_id: str) -> Table:
    return Table("account.csv", [], [])
