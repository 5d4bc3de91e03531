"""The bot's permissions, in the order of Discord's documentation: roles, then the channel's overwrites."""

from typing import Any

import pytest

from orchestration.channels.discord.permissions import ALL, NAMES, granted, missing

GUILD, ROLE, BOT = "1", "2", "3"
VIEW, SEND = NAMES["View Channel"], NAMES["Send Messages"]


def make_overwrite(of: str, allow: int = 0, deny: int = 0) -> dict[str, Any]:
    return {"id": of, "type": 0, "allow": str(allow), "deny": str(deny)}


@pytest.mark.parametrize(
    ("base", "role", "overwrites", "expected"),
    [
        pytest.param(VIEW, SEND, [], VIEW | SEND, id="roles add up"),
        pytest.param(VIEW | SEND, 0, [make_overwrite(GUILD, deny=SEND)], VIEW, id="the channel denies it to everyone"),
        pytest.param(
            VIEW,
            0,
            [make_overwrite(GUILD, deny=SEND), make_overwrite(ROLE, allow=SEND)],
            VIEW | SEND,
            id="a role of the bot may",
        ),
        pytest.param(
            VIEW,
            0,
            [make_overwrite(BOT, deny=VIEW), make_overwrite(ROLE, allow=VIEW | SEND)],
            SEND,
            id="the bot itself may not",
        ),
        pytest.param(0, 0, [make_overwrite("99", allow=SEND)], 0, id="a role of others"),
        pytest.param(0, 1 << 3, [make_overwrite(BOT, deny=SEND)], ALL, id="an administrator may all"),
    ],
)
def test_permission_is_that_of_roles_and_overwrites(
    base: int, role: int, overwrites: list[dict[str, Any]], expected: int
) -> None:
    roles = [{"id": GUILD, "permissions": str(base)}, {"id": ROLE, "permissions": str(role)}]
    roles.append({"id": "99", "permissions": str(SEND)})
    channel = {"guild_id": GUILD, "permission_overwrites": overwrites}

    assert granted(channel, roles, {"roles": [ROLE]}, BOT) == expected


def test_missing_permissions_have_the_names_of_the_settings() -> None:
    assert missing(VIEW | SEND, ["Send Messages", "Embed Links"]) == ["Embed Links"]
    assert missing(ALL) == []
