"""Who may send: every place for a key, rotation, signatures, and what is told to those without."""

import base64
import hashlib
import hmac
import time
from pathlib import Path

import pytest

from orchestration.collector import keys
from orchestration.collector.answers import RefusedError
from orchestration.collector.keys import Keys, Proof
from tests.orchestration.collector.loopback import (
    KEY,
    OTHER_KEY,
    Collecting,
    Program,
    head,
    raw_connection,
    read_reply,
    request,
    settings,
)

EVENT = {"event": "api_call"}
SECRETS = [b"first secret of 24 bytes", b"other secret of 24 bytes"]
WEBHOOK_SECRETS = ",".join(f"whsec_{base64.b64encode(secret).decode()}" for secret in SECRETS)


def basic(user: str, password: str = "") -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def signed(body: bytes, secret: bytes = SECRETS[0], identity: str = "msg_1", age: float = 0) -> dict[str, str]:
    sent_at = str(int(time.time() - age))
    digest = hmac.new(secret, f"{identity}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": identity, "webhook-timestamp": sent_at, "webhook-signature": f"v1,AAAA {signature} v2,x"}


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_each_key_is_right_in_each_place(collector: Collecting, key: str) -> None:
    for headers in (
        {"Authorization": f"Bearer {key}"},
        {"authorization": f"bearer  {key} "},
        {"Authorization": basic(key)},
        {"Authorization": basic(key, "anything")},
        {"X-API-Key": key},
        {"X-API-Key": key, "Authorization": "Bearer of something else"},
    ):
        assert request(collector.port, "/x", EVENT, headers).status == 200, headers
    for name in ("api_key", "writeKey", "token"):
        assert request(collector.port, "/x", {**EVENT, name: key}).status == 200
        assert request(collector.port, "/batch", {"batch": [EVENT], name: key}).status == 200
    assert len(collector.finished()) == 12


def test_missing_or_wrong_key_stores_nothing(collector: Collecting) -> None:
    wrong = f"{KEY[:-1]}x"
    for headers in (
        {},
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": "Bearer"},
        {"Authorization": KEY},
        {"Authorization": basic(wrong, KEY)},
        {"Authorization": "Basic =="},
        {"Authorization": f"Digest {KEY}"},
        {"X-API-Key": wrong},
        {"X-API-Key": ""},
    ):
        reply = request(collector.port, "/x", EVENT, headers)
        assert (reply.status, list(reply.json), reply.headers["www-authenticate"]) == (401, ["error"], "Bearer")
    bodies = (
        {"api_key": wrong},
        {"api_key": 7},
        {"token": None},
        [{"api_key": KEY}],
        {"batch": [{"token": KEY}]},
        b"x",
    )
    for path in ("/x", "/batch", "/api/v1/events"):
        for body in (*bodies, b""):
            assert request(collector.port, path, body).status == 401, body
    lines = b'{"api_key":"' + KEY.encode() + b'"}\n{}'
    assert request(collector.port, "/x", lines).status == 401
    for path in ("/batch", "/api/v1/events"):
        assert request(collector.port, path, lines).status == 400  # its key is right, it is no JSON
    assert request(collector.port, "/x", {"api_key": KEY}, {"Authorization": "Bearer wrong"}).status == 401
    assert collector.finished() == []


def test_wrong_key_is_refused_before_the_body_is_read(collector: Collecting) -> None:
    with raw_connection(collector.port) as connection:
        connection.sendall(head("/x", "Authorization: Bearer wrong", "Content-Length: 1000", key=False))
        assert read_reply(connection).startswith(b"HTTP/1.1 401 ")


def test_comparison_is_constant_in_time_and_looks_at_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    assert Keys([KEY, OTHER_KEY]).check_headers({b"x-api-key": KEY.encode()}) is Proof.KEY
    assert compared == [(KEY.encode(), KEY.encode()), (OTHER_KEY.encode(), KEY.encode())]


def test_signed_webhook_is_taken_and_its_id_is_the_events(tmp_path: Path) -> None:
    body = b'{"event": "api_call"}'
    with Collecting(settings(tmp_path, keys=None, webhook_secrets=WEBHOOK_SECRETS)) as collector:
        for secret in SECRETS:
            assert request(collector.port, "/x", body, signed(body, secret)).status == 200
        for age in (200, -200):
            assert request(collector.port, "/x", body, signed(body, age=age)).status == 200
        for headers in (
            signed(body, b"wrong secret of 24 bytes"),
            signed(body + b" "),
            signed(body, age=310),
            signed(body, age=-500),
            {**signed(body), "webhook-id": "msg_2"},
            {**signed(body), "webhook-timestamp": "now"},
            {**signed(body), "webhook-signature": ""},
            {name: value for name, value in signed(body).items() if name != "webhook-id"},
            {},
            {"Authorization": f"Bearer {KEY}"},
        ):
            assert request(collector.port, "/x", body, headers).status == 401, headers
        assert collector.finished() == [{"idempotencyKey": "msg_1", "event": "api_call"}] * 4


def test_signature_is_taken_up_to_five_minutes_off_our_clock() -> None:
    webhooks = Keys([], WEBHOOK_SECRETS.split(","))
    headers = {name.encode(): value.encode() for name, value in signed(b"{}").items()}
    sent_at = int(headers[b"webhook-timestamp"])
    for now in (sent_at - 300, sent_at + 300):
        webhooks.check_signature(headers, b"{}", now)
    for now in (sent_at - 301, sent_at + 301):
        with pytest.raises(RefusedError):
            webhooks.check_signature(headers, b"{}", now)


def test_keys_and_signatures_work_side_by_side(tmp_path: Path) -> None:
    with Collecting(settings(tmp_path, webhook_secrets=WEBHOOK_SECRETS)) as collector:
        assert request(collector.port, "/x", b"{}", signed(b"{}")).status == 200
        assert request(collector.port, "/x", b"{}", {"X-API-Key": KEY}).status == 200
        assert request(collector.port, "/x", b"{}", {"X-API-Key": KEY, "webhook-signature": "v1,x"}).status == 401


def test_without_a_key_it_does_not_start_and_offers_one(tmp_path: Path) -> None:
    program = Program(tmp_path, {"HEADROOM_COLLECT_KEYS": ""})
    with pytest.raises(AssertionError, match=r"put it into \.env"):
        program.start()
    program.wait()
    offered = program.log.partition("HEADROOM_COLLECT_KEYS=")[2].strip()
    Keys([offered])
    assert program.process.returncode == 1


@pytest.mark.parametrize("key", ["sh0rt", "with space and more", '"quoted-and-longer"', "1234567890123456", "ä" * 20])
def test_key_that_cannot_be_kept_apart_from_data_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="a good one is hr_") as refused:
        Keys([key])
    assert key not in str(refused.value)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_c2hvcnQ=", "c2VjcmV0c2VjcmV0c2VjcmV0", "whsec_!!!"])
def test_unusable_webhook_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="a good one is whsec_") as refused:
        Keys([], [secret])
    assert secret == "whsec_" or secret not in str(refused.value)


def test_refusal_says_where_a_key_is_looked_for() -> None:
    with pytest.raises(RefusedError) as refused:
        Keys([KEY]).check_body({})
    assert all(word in refused.value.answer.body for word in (b"Bearer", b"Basic", b"X-API-Key", b"writeKey"))


def test_keys_are_cut_out_in_every_spelling() -> None:
    escaped = OTHER_KEY.replace("/", "\\/")
    text = f'{{"a":"<{OTHER_KEY}>","b":"{escaped}","{KEY}":1}}'.encode()
    assert Keys([KEY, OTHER_KEY]).scrub(text) == b'{"a":"<[key removed]>","b":"[key removed]","[key removed]":1}'
