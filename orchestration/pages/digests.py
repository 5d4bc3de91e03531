"""Not made yet."""

from orchestration.pages.asking import Asked, Page


def listing(asked: Asked) -> Page:
    return Page("digests", "Digests", {})


def page(asked: Asked, on: str) -> Page:
    return Page("digest", on, {})
