"""Not made yet."""

from typing import Any

from orchestration.pages.asking import Asked
from orchestration.settings import Settings


def usage(asked: Asked) -> dict[str, Any]:
    return {}


def account_usage(asked: Asked, account_id: str) -> dict[str, Any]:
    return {}


def cache_control(asked: Asked) -> str:
    return "private, no-cache"


def openapi(settings: Settings) -> dict[str, Any]:
    return {}
