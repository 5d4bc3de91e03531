"""Who may send: every place for a key, rotation, signatures, and what is told to those without."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

import pytest

from orchestration.collector import keys
from orchestration.collector.answers import RefusedError
from orchestration.collector.keys import Keys, Sender
from tests.orchestration.collector.loopback import (
    KEY,
    OTHER_KEY,
    Collecting,
    Program,
    head,
    post,
    raw_connection,
    read_reply,
    request,
    settings,
    stored,
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
    sender = Sender(f"key-{hashlib.sha256(KEY.encode()).hexdigest()[:8]}")
    assert Keys([KEY, OTHER_KEY]).check_headers({b"x-api-key": KEY.encode()}) == sender
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
    with pytest.raises(AssertionError, match=r"into \.env"):
        program.start()
    program.wait()
    offered = program.log.partition("HEADROOM_COLLECT_KEYS=")[2].strip()
    Keys([offered])
    assert program.process.returncode == 1


@pytest.mark.parametrize("key", ["sh0rt", "with space and more", '"quoted-and-longer"', "1234567890123456", "ä" * 20])
def test_key_that_cannot_be_kept_apart_from_data_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="A good one is hr_") as refused:
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


def test_line_names_the_key_and_the_source_of_its_events(tmp_path: Path) -> None:
    keys_file = tmp_path / "keys"
    keys_file.write_text(f"# customers\n\nglobex:{OTHER_KEY}\n")
    named = {"keys": f"acme:{KEY},acme:{KEY}2,{KEY}3", "keys_file": str(keys_file)}
    with Collecting(settings(tmp_path, webhook_secrets=WEBHOOK_SECRETS, **named)) as collector:
        for headers in (
            {"X-API-Key": KEY},
            {"X-API-Key": f"{KEY}2"},
            {"X-API-Key": OTHER_KEY},
            {"X-API-Key": f"{KEY}3"},
        ):
            for path in ("/x", "/v1/analytics/a%20project/"):
                assert request(collector.port, path, EVENT, headers).status == 200
        assert request(collector.port, "/batch", {"api_key": KEY, "batch": [EVENT]}).status == 200
        assert request(collector.port, "/x", b"{}", signed(b"{}")).status == 200
        collector.stop()
    said = [(line["received_key"], line.get("received_source")) for line in stored(collector.folder)]
    unnamed, webhook = (hashlib.sha256(each).hexdigest()[:8] for each in (f"{KEY}3".encode(), SECRETS[0]))
    assert said == [
        *[("acme", "acme"), ("acme", "a project")] * 2,
        *[("globex", "globex"), ("globex", "a project")],
        *[(f"key-{unnamed}", None), (f"key-{unnamed}", "a project")],
        *[("acme", "acme"), (f"webhook-{webhook}", None)],
    ]


def test_key_with_a_colon_of_before_keys_had_names_is_still_right() -> None:
    for entry in (f"acme:{KEY}", f"a b:{KEY}".replace(" ", "+"), "acme:sh0rt-and-more"):
        Keys([entry]).check_headers({b"x-api-key": entry.encode()})


def test_long_project_is_kept_by_its_hash(collector: Collecting) -> None:
    assert request(collector.port, f"/v1/analytics/{'x' * 5000}/", EVENT, {"X-API-Key": KEY}).status == 200
    collector.stop()
    assert [len(line["received_source"]) for line in stored(collector.folder)] == [64]


def test_keys_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"HEADROOM_COLLECT_KEYS_FILE=.* cannot be read"):
        Keys.of(settings(tmp_path, keys_file=str(tmp_path / "none")))


def spelled(key: str, slashes: str = "\\", upper: bool = False) -> str:
    """Each character as its escape."""
    return "".join(f"{slashes}u00{ord(each):02X}" if upper else f"{slashes}u00{ord(each):02x}" for each in key)


@pytest.mark.parametrize(
    "written",
    [
        spelled(OTHER_KEY),
        spelled(OTHER_KEY, upper=True),
        spelled(OTHER_KEY, slashes="\\\\"),  # in JSON that is a string of JSON
        OTHER_KEY[:5] + spelled(OTHER_KEY[5]) + OTHER_KEY[6:],
        OTHER_KEY.replace("/", "\\/"),
        OTHER_KEY.replace("/", "\\\\/"),
    ],
)
def test_key_in_escapes_is_cut_out_wherever_it_stands(collector: Collecting, written: str) -> None:
    body = f'{{"event":"api_call","a":"<{written}>","deep":[{{"{written}":["\\n{written}",1]}}]}}'
    for path in ("/x", "/batch"):
        assert post(collector.port, body.encode(), path).status == 200
    assert post(collector.port, f'{{"event":"api_call"}}\nno json {written}'.encode(), "/x").status == 200
    first, second, plain = collector.finished()
    assert first == second
    assert first["a"] == "<[key removed]>"
    [[key, value]] = first["deep"][0].items()
    assert (key, value[1]) == ("[key removed]", 1)
    assert value[0].endswith("[key removed]")
    assert plain == {"event": "api_call"}
    [line] = [line["line"] for line in stored(collector.folder) if "line" in line]
    assert line == "no json [key removed]"


def test_text_that_only_looks_like_a_key_stays_json() -> None:
    key = "n_key_that_begins_like_a_line_break"
    scrubbed = Keys([key]).scrub(b'{"a":"\\n_key_that_begins_like_a_line_break","b":"\\u00fc \\u0041 \\/"}')
    assert json.loads(scrubbed)["b"] == "ü A /"


def test_keys_are_cut_out_in_every_spelling() -> None:
    escaped = OTHER_KEY.replace("/", "\\/")
    text = f'{{"a":"<{OTHER_KEY}>","b":"{escaped}","{KEY}":1}}'.encode()
    assert Keys([KEY, OTHER_KEY]).scrub(text) == b'{"a":"<[key removed]>","b":"[key removed]","[key removed]":1}'
