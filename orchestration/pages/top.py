"""Not made yet."""

from orchestration.pages.asking import Asked, Page, Table


def page(asked: Asked) -> Page:
    return Page("top", "top", {})


def table(asked: Asked) -> Table:
    return Table("top.csv", [], [])
