"""How a route opens the channel: what it needs, and the sentence where something is missing or wrong."""

import pytest

from orchestration.channels.email.server import Server, server_of
from orchestration.channels.email.vendor import VENDOR
from orchestration.ledger.outbox import Promise
from orchestration.messages.vendor import Checked, Target
from orchestration.settings import load
from tests.fakes.email import FakeEmail

URL = "smtp://headroom:very%2Fsecret@mail.example.com:587"
OPTIONS = {"from": "Usage <usage@example.com>"}


def opened(url: str | None = URL, to: str = "sales@example.com", **options: str) -> object:
    secrets = {"url": url} if url is not None else {}
    return VENDOR.open(Target("mail", to, Promise.EXACTLY_ONCE, secrets.get, {**OPTIONS, **options}), load())


@pytest.mark.parametrize(
    ("url", "server"),
    [
        (URL, Server("mail.example.com", 587, False, True)),
        ("smtp://mail.example.com", Server("mail.example.com", 587, False, True)),
        ("smtps://mail.example.com", Server("mail.example.com", 465, True, True)),
        ("smtp://127.0.0.1:2525", Server("127.0.0.1", 2525, False, False)),
        ("smtp://localhost:2525", Server("localhost", 2525, False, False)),
        ("smtp://[::1]:2525", Server("::1", 2525, False, False)),
        ("smtp://127.0.0.1:2525?tls=on", Server("127.0.0.1", 2525, False, True)),
        ("smtp://mail.example.com:25?tls=off", Server("mail.example.com", 25, False, False)),
    ],
)
def test_server_is_encrypted_unless_it_is_here_or_the_url_says_so(url: str, server: Server) -> None:
    found = server_of(url)
    assert (found.host, found.port, found.is_smtps, found.is_encrypted) == (
        *(server.host, server.port, server.is_smtps, server.is_encrypted),
    )


def test_user_and_password_are_unquoted_and_not_shown() -> None:
    found = server_of(URL)
    assert (found.user, found.password) == ("headroom", "very/secret")
    assert "secret" not in f"{found!r} {found}"


@pytest.mark.parametrize(
    "url",
    [
        *("", "very-secret", "https://very-secret@mail.example.com", "smtp://u:very/secret@mail.example.com:587"),
        *("smtp://u:very-secret@mail.example.com:x", "smtp://u:very-secret@mail.example.com?tls=maybe"),
        *("smtp://u:very#secret@mail.example.com", "smtp://:587", "smtp://u:very-secret-ü@mail.example.com"),
    ],
)
def test_wrong_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="route mail") as refused:
        opened(url)
    assert "secret" not in str(refused.value)
    assert "secret" not in repr(refused.value.__cause__)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"from": ""}, "'an empty text' is not an e-mail address; `from` and `reply_to` are such as Usage"),
        ({"from": "Usage"}, "is not an e-mail address"),
        ({"reply_to": "nobody"}, "'nobody' is not an e-mail address"),
        ({"list_id": "a b"}, "`list_id` has to be a name with dots"),
    ],
)
def test_wrong_option_is_refused_with_the_remedy(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match="route mail: ") as refused:
        opened(**options)
    assert sentence in str(refused.value)


def test_missing_url_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="route mail needs a mail server: set its `url` to smtp://"):
        opened(None)


def test_channel_promises_what_the_route_chose() -> None:
    channel = opened(reply_to="Dana <dana@example.com>", list_id="<usage.example.com>")
    assert isinstance(channel, Checked)
    assert (channel.promise, channel.name, channel.is_preview) == (  # type: ignore[attr-defined]
        *(Promise.EXACTLY_ONCE, "e-mail", False),
    )
    assert VENDOR.promises[0] is Promise.EXACTLY_ONCE


def test_fake_configures_a_route() -> None:
    with FakeEmail() as server:
        assert server.environment("to-sales") == {"HEADROOM_ROUTE_TO_SALES_URL": server.url}
