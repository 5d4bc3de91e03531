"""The channels that routes may name. To add one: a folder with a `vendor.py` beside this file, a name here, a row in
docs/messages/routes.md.

Each is imported when a route needs it: their libraries take a tenth of a second each.
"""

from importlib import import_module

from orchestration.messages.vendor import Vendor

NAMES = ("slack", "email", "webhook", "discord", "telegram", "teams", "notion", "pagerduty")


def vendor(name: str) -> Vendor:
    """:raises KeyError: there is no such channel."""
    if name not in NAMES:
        raise KeyError(name)
    found: Vendor = import_module(f"orchestration.channels.{name}.vendor").VENDOR
    return found
