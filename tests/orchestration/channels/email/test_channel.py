"""The channel against a mail server on loopback: what is in the mailboxes after failures."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestration.channels.email import server as servers
from orchestration.ledger.ledger import State
from orchestration.ledger.outbox import InDoubtError, Promise, RefusedError
from orchestration.messages.message import Message
from tests.fakes.email import FakeEmail
from tests.fakes.slack import (
    CUT_OFF_AFTER,
    ERROR_AFTER,
    ERROR_BEFORE,
    GARBLED_AFTER,
    LOST_AFTER,
    LOST_BEFORE,
    PORTAL_BEFORE,
    Fault,
    rate_limited,
)
from tests.orchestration.channels.email.conftest import Desk

IN_DOUBT = [LOST_BEFORE, LOST_AFTER, CUT_OFF_AFTER, GARBLED_AFTER, ERROR_AFTER, PORTAL_BEFORE]
REPEATED = "This may be a repetition."


def test_letter_arrives_once_however_often_it_is_delivered(desk: Desk) -> None:
    first, second = desk.deliver(), desk.deliver()

    [letter] = desk.server.arrived
    assert first == second
    assert (first.state, first.address, first.receipt) == (State.SENT, "sales@example.com", letter["mark"])
    assert letter["mark"].endswith(".headroom@example.com>")
    assert "1 account crossed 80 %" in letter["text"]
    assert REPEATED not in letter["text"]


@pytest.mark.parametrize("fault", IN_DOUBT)
def test_letter_in_doubt_is_repeated_with_its_message_id(desk: Desk, fault: Fault) -> None:
    desk.server.fail_next(fault)
    with pytest.raises(InDoubtError, match=r"may have been sent: no (usable )?answer"):
        desk.deliver()
    with pytest.raises(InDoubtError):
        desk.deliver()
    assert len(desk.server.letters) == fault.applies

    desk.wait_for_the_doubt_to_end()

    assert desk.deliver().state is State.SENT
    assert len(desk.server.letters) == 1 + fault.applies
    [shown] = desk.server.arrived
    assert shown["mark"] == desk.stored().receipt
    assert len({letter["Date"] for _, letter in desk.server.letters}) == 1
    last = desk.server.letters[-1][1].get_body(("plain",))
    assert last and last.get_content().startswith(REPEATED)


def test_repeated_letter_says_so_in_text_and_html(desk: Desk) -> None:
    desk.channel.send(desk.stored(address="sales@example.com", doubts=1))

    [(_, letter)] = desk.server.letters
    text, page = (letter.get_body((kind,)).get_content() for kind in ("plain", "html"))  # type: ignore[union-attr]
    assert text.startswith(REPEATED)
    assert f"<p>{REPEATED}</p>" in page


def test_letter_in_doubt_goes_where_it_went_when_the_route_changes(desk: Desk) -> None:
    desk.server.fail_next(LOST_AFTER)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.channel = desk.open(desk.server.other_to)
    desk.wait_for_the_doubt_to_end()

    assert desk.deliver().address == "sales@example.com"
    assert [shown["to"] for shown in desk.server.arrived] == ["sales@example.com"]


def test_refused_letter_goes_to_the_new_address_of_the_route(desk: Desk) -> None:
    desk.server.fail_next(ERROR_BEFORE)
    with pytest.raises(RefusedError):
        desk.deliver()
    desk.channel = desk.open(desk.server.other_to)

    assert desk.deliver().state is State.SENT
    assert [shown["to"] for shown in desk.server.arrived] == ["support@example.com"]


def test_route_that_sends_at_most_once_gives_up_what_is_in_doubt(desk: Desk) -> None:
    desk.channel = desk.open(promise=Promise.AT_MOST_ONCE)
    desk.server.fail_next(LOST_BEFORE)
    with pytest.raises(InDoubtError):
        desk.deliver()
    desk.wait_for_the_doubt_to_end()

    assert desk.deliver().state is State.GIVEN_UP
    assert desk.server.letters == []


def test_mailbox_that_keeps_duplicates_shows_the_repetition(desk: Desk) -> None:
    desk.server.drops_duplicates = False
    for doubts in (0, 1):
        desk.channel.send(desk.stored(address="sales@example.com", doubts=doubts))

    assert [REPEATED in shown["text"] for shown in desk.server.arrived] == [False, True]


def test_letter_that_people_send_once_more_is_another_one(desk: Desk) -> None:
    for resends in (0, 1):
        desk.channel.send(desk.stored(address="sales@example.com", resends=resends))

    assert len(desk.server.arrived) == 2


def test_two_processes_send_one_letter(desk: Desk, tmp_path: Path) -> None:
    """The second one looks while the first has no answer."""
    claimed = desk.ledger.claim(desk.stored(), desk.now, "sales@example.com")
    assert claimed
    other = Desk(tmp_path, desk.server)
    with pytest.raises(InDoubtError, match="had no answer"):
        other.deliver()
    desk.channel.send(claimed)
    other.ledger.close()

    assert len(desk.server.letters) == 1


def test_letter_goes_to_all_recipients_or_to_none(desk: Desk) -> None:
    desk.channel = desk.open("anna@example.com, bob@example.com,carl@example.com, Anna@example.com")
    desk.server.refusals = {"bob@example.com": "550 5.1.1 very-secret-text"}

    with pytest.raises(RefusedError) as refused:
        desk.deliver()

    assert str(refused.value) == (
        "the mail server refused the recipients bob@example.com (550 5.1.1): correct the address. Nobody got it"
    )
    assert desk.server.letters == []
    desk.server.refusals = {}
    assert desk.deliver().state is State.SENT
    assert [shown["to"] for shown in desk.server.arrived] == ["anna@example.com", "bob@example.com", "carl@example.com"]
    [(_, letter)] = desk.server.letters
    assert letter["To"] == "anna@example.com, bob@example.com, carl@example.com"


@pytest.mark.parametrize(
    ("command", "answer", "sentence"),
    [
        ("MAIL", "553 5.7.1 no", "refused the sender (553 5.7.1): let this user send from the route's `from`"),
        ("MAIL", "530 5.7.0 no", "refused the sender (530 5.7.0): it wants a login"),
        ("MAIL", "421 4.3.2 no", "refused the sender (421 4.3.2): run again in a few minutes"),
        ("MAIL", "452 no", "refused the sender (452): run again in a few minutes"),
        ("sales@example.com", "551 moved", "refused the recipients sales@example.com (551): correct the address"),
        (
            "sales@example.com",
            "552 5.2.2 full",
            "refused the recipients sales@example.com (552 5.2.2): the mailbox is full",
        ),
        ("DATA", "554 5.7.1 spam", "refused the content (554 5.7.1): ask who runs the server which rule"),
        ("DATA", "451 4.7.1 later", "refused the content (451 4.7.1): run again in a few minutes"),
    ],
)
def test_refusal_names_the_step_the_code_and_the_remedy(desk: Desk, command: str, answer: str, sentence: str) -> None:
    desk.server.refusals = {command: answer}

    with pytest.raises(RefusedError) as refused:
        desk.deliver()

    assert sentence in str(refused.value)
    assert desk.stored().state is State.FAILED
    assert desk.server.letters == []


@pytest.mark.parametrize("fault", [ERROR_BEFORE, rate_limited(30), Fault(status=403, body="no")])
def test_refusal_after_the_letter_is_a_refusal(desk: Desk, fault: Fault) -> None:
    desk.server.fail_next(fault)
    with pytest.raises(RefusedError, match="refused the content"):
        desk.deliver()

    assert desk.deliver().state is State.SENT
    assert len(desk.server.arrived) == 1


def test_greylisted_letter_is_taken_by_the_next_run(desk: Desk) -> None:
    desk.server.greylists = True
    with pytest.raises(RefusedError, match="run again in a few minutes"):
        desk.deliver()

    assert desk.deliver().state is State.SENT
    assert len(desk.server.letters) == 1


def test_letter_above_the_size_of_the_server_is_refused_before_it_is_sent(desk: Desk) -> None:
    desk.server.size_limit = 1_000
    with pytest.raises(RefusedError, match=r"refused the sender \(552\): raise the size limit of the server"):
        desk.deliver()


def test_server_that_never_answers_leaves_the_letter_in_doubt(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ATTEMPT_SECONDS", 3.0)  # long enough to connect on a busy machine
    desk.server.is_silent = True
    with pytest.raises(InDoubtError, match="no answer from the mail server"):
        desk.deliver()


def test_attempt_that_took_too_long_to_connect_sends_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ATTEMPT_SECONDS", 0)
    with pytest.raises(RefusedError, match="took too long to say hello"):
        desk.deliver()
    assert desk.server.letters == []


def test_outage_is_a_refusal_and_the_letter_follows(desk: Desk) -> None:
    desk.server.is_down = True
    with pytest.raises(RefusedError, match="could not be used"):
        desk.deliver()
    desk.server.is_down = False

    assert desk.deliver().state is State.SENT


def test_wrong_password_is_a_refusal_with_the_remedy(desk: Desk) -> None:
    desk.server.password = "another"
    with pytest.raises(RefusedError, match=r"refused the login \(535 5.7.8\): check the user and the password"):
        desk.deliver()


def test_address_of_an_account_is_taken_from_the_payload(desk: Desk) -> None:
    desk.prepare(Message("notice|1", "customer", "Your usage", "", body="Hello"), "notice", to="anna@straße.example")
    desk.channel = desk.open("")

    assert desk.deliver("notice").address == "anna@xn--strae-oqa.example"


@pytest.mark.parametrize("address", ["", "nobody", "a@b, c", "a@b>\r\nRCPT TO:<evil@example.com", "a b@example.com"])
def test_address_that_is_none_is_refused(desk: Desk, address: str) -> None:
    desk.prepare(Message("notice|1", "customer", "Your usage", "", body="Hello"), "notice", to=address)
    desk.channel = desk.open("")
    with pytest.raises(RefusedError, match="correct the route's `to`, or the column that it names"):
        desk.deliver("notice")


def test_address_beyond_ascii_needs_a_server_that_takes_it(desk: Desk) -> None:
    desk.channel = desk.open("anná@example.com")
    assert desk.deliver().state is State.SENT
    [(recipients, letter)] = desk.server.letters
    assert recipients == ["anná@example.com"]
    assert letter["To"] == "anná@example.com"

    desk.server.has_smtputf8 = False
    with pytest.raises(RefusedError, match="offers no letters to addresses beyond ASCII"):
        desk.channel.send(desk.stored())


def test_nothing_secret_is_in_errors_or_the_ledger(desk: Desk, tmp_path: Path) -> None:
    said = []
    for attribute, value in (("password", "x"), ("is_down", True), ("refusals", {"MAIL": "550 pass/word#1"})):
        before = getattr(desk.server, attribute)
        setattr(desk.server, attribute, value)
        with pytest.raises(RefusedError) as refused:
            desk.deliver()
        said += [str(refused.value), repr(refused.value.__cause__), *(str(each) for each in desk.channel.check())]
        setattr(desk.server, attribute, before)
    desk.deliver()

    stored = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.sqlite*"))
    for secret in ("pass/word#1", "pass%2Fword%231"):
        assert not any(secret in each for each in [*said, repr(desk.channel._server)])
        assert secret.encode() not in stored


# Encryption


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key, and a certificate of 127.0.0.1 by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


def tls_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("is_smtps", [False, True])
def test_letter_goes_over_tls_to_a_server_with_a_known_certificate(
    data: Path, tmp_path: Path, certificate: Path, is_smtps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FakeEmail(tls_of(certificate), is_smtps) as server:
        desk = Desk(tmp_path, server)
        desk.prepare(Message("digest|1", "sales", "Usage", "Hello"))
        assert desk.deliver().state is State.SENT
        [finding] = [each for each in desk.channel.check() if each.subject.startswith("mail server")]
        assert finding.subject.endswith(", encrypted, logged in")
        desk.ledger.close()


@pytest.mark.parametrize("is_smtps", [False, True])
def test_unknown_certificate_is_a_refusal(data: Path, tmp_path: Path, certificate: Path, is_smtps: bool) -> None:
    with FakeEmail(tls_of(certificate), is_smtps) as server:
        desk = Desk(tmp_path, server)
        desk.prepare(Message("digest|1", "sales", "Usage", "Hello"))
        with pytest.raises(RefusedError, match="certificate is not valid for its name"):
            desk.deliver()
        desk.ledger.close()
        assert server.letters == []


def test_server_without_encryption_gets_no_password(desk: Desk) -> None:
    url = f"{desk.server.url}?tls=on"
    channel = desk.channel
    channel._server = servers.server_of(url)
    with pytest.raises(RefusedError, match=r"offers no encryption \(STARTTLS\): use smtps://, or add \?tls=off"):
        channel.send(desk.stored(address="sales@example.com"))


# Check


def test_check_logs_in_and_sends_nothing(desk: Desk) -> None:
    findings = desk.channel.check()

    assert [finding.problem for finding in findings] == ["", ""]
    assert findings[0].subject == f"mail server 127.0.0.1:{desk.server.port}, not encrypted, logged in"
    assert findings[1].subject == "recipients sales@example.com"
    assert desk.server.letters == []


def test_check_says_what_is_wrong_and_what_to_do(desk: Desk) -> None:
    desk.server.password = "another"

    [server, recipients] = desk.open("nobody").check()

    assert "check the user and the password" in server.problem
    assert recipients.problem == "'nobody' is not an e-mail address: correct the route's `to`"
