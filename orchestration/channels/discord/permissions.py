"""What a bot may do in a channel of a server, by the page "Permissions" of Discord's documentation."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

ADMINISTRATOR = 1 << 3
NAMES = {
    "View Channel": 1 << 10,
    "Send Messages": 1 << 11,
    "Embed Links": 1 << 14,
    "Read Message History": 1 << 16,
    "Create Public Threads": 1 << 35,
    "Send Messages in Threads": 1 << 38,
}
"""Those that Headroom needs, as the settings of a channel call them."""
ALL = ~0


def missing(granted: int, needed: Collection[str] = tuple(NAMES)) -> list[str]:
    """The names of those that are not granted."""
    return [name for name in needed if not granted & NAMES[name]]


def granted(
    channel: Mapping[str, Any], roles: Iterable[Mapping[str, Any]], member: Mapping[str, Any], bot_id: str
) -> int:
    """The bot's permissions in the channel, as bits. `roles` are those of the server, `member` is the bot in it.

    The role that everybody has goes by the id of the server. What is denied to a role is granted by another one that
    allows it; what is said of the member goes before both.
    """
    everyone, own = str(channel["guild_id"]), set(member["roles"])
    bits = 0
    for role in roles:
        if role["id"] == everyone or role["id"] in own:
            bits |= int(role["permissions"])
    if bits & ADMINISTRATOR:
        return ALL
    overwrites = list(channel.get("permission_overwrites") or ())
    for ids in ({everyone}, own, {bot_id}):
        said = [each for each in overwrites if each["id"] in ids]
        bits &= ~_union(each["deny"] for each in said)
        bits |= _union(each["allow"] for each in said)
    return bits


def _union(values: Iterable[str]) -> int:
    bits = 0
    for value in values:
        bits |= int(value)
    return bits
