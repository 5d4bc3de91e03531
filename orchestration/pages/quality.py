"""Not made yet."""

from orchestration.pages.asking import Asked, Page, Table


def page(asked: Asked) -> Page:
    return Page("quality", "quality", {})


def table(asked: Asked) -> Table:
    return Table("quality.csv", [], [])
