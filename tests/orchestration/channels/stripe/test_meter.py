"""A meter at Stripe by the real SDK: what each of its answers means, pages, and the pace of requests."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stripe import StripeClient

from orchestration.billing.meter import AnsweredError, StoppedError
from orchestration.billing.metering import Mode, ReportState
from orchestration.billing.revisions import Report
from orchestration.channels.stripe import meter as channel
from orchestration.channels.stripe.meter import PATIENCE, Pace, StripeMeter, explanation
from orchestration.ledger.outbox import InDoubtError, RefusedError
from orchestration.settings import load
from tests.fakes.slack import LOST_AFTER, LOST_BEFORE, Fault
from tests.fakes.stripe import FAILED_AFTER, FAILED_BEFORE, FakeStripe

NOW = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEVEN = datetime(2026, 11, 20, 7, tzinfo=UTC)
METERS, SUMMARIES = "/v1/billing/meters", "/v1/billing/meters/{}/event_summaries"


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def meter(stripe: FakeStripe, client: StripeClient, time: Time) -> StripeMeter:
    stripe.clock = NOW.timestamp
    stripe.add_meter("api-calls", "hour")
    stripe.add_customer("cus_1")
    return make(client, time)


def make(client: StripeClient, time: Time, name: str = "api-calls") -> StripeMeter:
    return StripeMeter(client, name, Pace(float("inf"), lambda: time.now, time.sleep))


def report(customer: str = "cus_1", hour: datetime = SEVEN, **fields: Any) -> Report:
    known = {"revision": 1, "units": 5, "value": 5, "identifier": f"id-{customer}-{hour:%d-%H}"}
    return Report(customer, hour, **{**known, "state": ReportState.SENDING, "created_at": NOW, **fields})


def totals(stripe: FakeStripe) -> dict[datetime, int]:
    return {datetime.fromtimestamp(at, UTC): int(units) for at, units in stripe.totals("cus_1", "api-calls").items()}


def fault(status: int, message: str = "no", *, applies: bool = False, **headers: str) -> Fault:
    kind = "idempotency_error" if message == "idempotency" else "invalid_request_error"
    body = json.dumps({"error": {"type": kind, "message": message}})
    return Fault(
        applies=applies, status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


# The meter


@pytest.mark.parametrize(("window", "mode"), [("hour", Mode.TOTAL), (None, Mode.DELTA)])
def test_mode_is_what_the_meter_is(
    stripe: FakeStripe, client: StripeClient, time: Time, window: str | None, mode: Mode
) -> None:
    added = stripe.add_meter("api-calls", window)

    found = make(client, time)
    assert (found.id, found.mode) == (added["id"], mode)


def test_meter_is_found_on_a_later_page_among_the_active(stripe: FakeStripe, client: StripeClient, time: Time) -> None:
    stripe.add_meter("api-calls", status="inactive")
    wanted = stripe.add_meter("api-calls", "hour")
    for number in range(205):
        stripe.add_meter(f"other-{number}")

    assert make(client, time).id == wanted["id"]
    assert stripe.counts()[f"GET {METERS}"] == 3


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"event_name": "other"},
            "no active meter with the event name 'api-calls'. Create it with `headroom stripe bootstrap --apply`",
        ),
        ({"event_name": "api-calls", "status": "inactive"}, "no active meter"),
        (
            {"event_name": "api-calls", "event_time_window": "day"},
            "keeps one value of each day.*event_time_window hour",
        ),
        ({"event_name": "api-calls", "default_aggregation": {"formula": "count"}}, "has the formula 'count'"),
        ({"event_name": "api-calls", "default_aggregation": {"formula": "last"}}, "has the formula 'last'"),
    ],
)
def test_meter_that_does_not_fit_is_not_used(
    stripe: FakeStripe, client: StripeClient, time: Time, fields: dict[str, Any], sentence: str
) -> None:
    stripe.add_meter(**fields)

    with pytest.raises(StoppedError, match=sentence):
        make(client, time)


def test_payload_has_the_keys_that_the_meter_looks_for(stripe: FakeStripe, client: StripeClient, time: Time) -> None:
    stripe.clock = NOW.timestamp
    keys = {"customer_mapping": {"event_payload_key": "who", "type": "by_id"}}
    stripe.add_meter("api-calls", "hour", **keys, value_settings={"event_payload_key": "how_many"})
    stripe.add_customer("cus_1")
    make(client, time).send(report())

    [event] = stripe.events
    assert event.payload == {"who": "cus_1", "how_many": "5"}
    assert (event.timestamp, event.error) == (int(SEVEN.timestamp()), None)


def test_meter_is_configured_by_the_environment(stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch) -> None:
    stripe.add_meter("calls", "hour")
    monkeypatch.setenv("HEADROOM_STRIPE_METER", "calls")
    assert channel.configured(load()).mode is Mode.TOTAL

    monkeypatch.delenv("STRIPE_API_KEY")
    with pytest.raises(ValueError, match="STRIPE_API_KEY is not set"):
        channel.configured(load())


# Sending


def test_report_is_taken_once_under_its_identifier(stripe: FakeStripe, meter: StripeMeter) -> None:
    for _ in range(2):  # the same idempotency key: the answer is repeated
        meter.send(report())
    meter.send(report(answered_errors=1))  # another key: Stripe says that it exists

    assert totals(stripe) == {SEVEN: 5}
    assert [(event.identifier, event.idempotency_key) for event in stripe.events] == [
        ("id-cus_1-20-07", "id-cus_1-20-07-0")
    ]


@pytest.mark.parametrize("value", [0, -3, 10**15])
def test_value_arrives_as_it_is(stripe: FakeStripe, meter: StripeMeter, value: int) -> None:
    meter.send(report(value=value))
    assert totals(stripe) == {SEVEN: value}


@pytest.mark.parametrize(("lost", "counts"), [(LOST_BEFORE, {}), (LOST_AFTER, {SEVEN: 5})], ids=["before", "after"])
def test_lost_answer_leaves_a_report_in_doubt_that_is_safe_to_send_again(
    stripe: FakeStripe, meter: StripeMeter, lost: Fault, counts: dict[datetime, int]
) -> None:
    stripe.then(lost)
    with pytest.raises(InDoubtError, match=r"no answer from Stripe \(APIConnectionError\) for cus_1") as doubt:
        meter.send(report())

    assert not isinstance(doubt.value, AnsweredError)
    assert totals(stripe) == counts
    meter.send(report())
    assert totals(stripe) == {SEVEN: 5}


@pytest.mark.parametrize("body", ["<html>", "", "[]", '{"object": ', '{"ok": true}'])
def test_garbled_success_leaves_the_report_in_doubt(stripe: FakeStripe, meter: StripeMeter, body: str) -> None:
    stripe.then(Fault(applies=True, status=200, body=body))
    with pytest.raises(InDoubtError):
        meter.send(report())

    meter.send(report())
    assert totals(stripe) == {SEVEN: 5}


@pytest.mark.parametrize("failed", [FAILED_BEFORE, FAILED_AFTER], ids=["before", "after"])
def test_failure_is_repeated_to_the_same_key_and_not_to_the_next(
    stripe: FakeStripe, meter: StripeMeter, failed: Fault
) -> None:
    stripe.then(failed)
    for _ in range(2):
        with pytest.raises(AnsweredError, match="HTTP 500"):
            meter.send(report())

    meter.send(report(answered_errors=1))
    assert totals(stripe) == {SEVEN: 5}


def test_key_that_was_used_for_other_parameters_is_left_behind(stripe: FakeStripe, meter: StripeMeter) -> None:
    meter.send(report(value=3, identifier="other"))
    stripe.then(fault(400, "idempotency"))
    with pytest.raises(AnsweredError):
        meter.send(report())


@pytest.mark.parametrize(
    ("status", "message", "error", "sentence"),
    [
        (400, "The value is odd.", RefusedError, "Stripe refused it: The value is odd."),
        (402, "No.", RefusedError, "Stripe refused it: No."),
        (404, "No such thing", RefusedError, "Stripe refused it: No such thing"),
        (400, "No active meter found for event name x", StoppedError, "check HEADROOM_STRIPE_METER"),
        (401, "Invalid API Key provided: sk_test_fake", StoppedError, "STRIPE_API_KEY is not valid"),
        (403, "needs 'rak_billing_meter_event_write'", StoppedError, "permission billing_meter_event_write"),
        (409, "conflict", InDoubtError, "no answer from Stripe"),
        (503, "down", AnsweredError, "HTTP 503"),
    ],
)
def test_answer_says_what_became_of_the_report(
    stripe: FakeStripe, meter: StripeMeter, status: int, message: str, error: type[Exception], sentence: str
) -> None:
    stripe.then(fault(status, message))
    with pytest.raises(error, match=sentence) as raised:
        meter.send(report())

    assert type(raised.value) is error
    assert raised.value.__cause__ is None


def test_hours_that_stripe_takes_no_more_are_refused(stripe: FakeStripe, meter: StripeMeter) -> None:
    for hour in (SEVEN - timedelta(days=36), SEVEN + 2 * HOUR):
        with pytest.raises(RefusedError, match="The event timestamp cannot be more than"):
            meter.send(report(hour=hour))
    assert stripe.events == []


def test_refusal_asks_for_a_permission_when_the_key_is_restricted(
    stripe: FakeStripe, meter: StripeMeter, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    stripe.keys["rk_test_narrow"] = {"billing_meter_read"}
    monkeypatch.setenv("STRIPE_API_KEY", "rk_test_narrow")
    client = channel.stripe_client.connect(load())
    assert client
    narrow = make(client, time)

    for request in (lambda: narrow.send(report()), lambda: narrow.problem_of("cus_1")):
        with pytest.raises(StoppedError, match=r"HTTP 403 .*give the key the permission") as refused:
            request()
        assert "rk_test_narrow" not in str(refused.value)


@pytest.mark.parametrize(
    "cause",
    [
        lambda stripe: stripe.keys.clear(),
        lambda stripe: stripe.then(fault(401, "Invalid API Key provided: sk_test_fake")),
        lambda stripe: stripe.then(fault(403, "The key sk_test_fake may not")),
        lambda stripe: stripe.then(LOST_BEFORE),
        lambda stripe: stripe.then(FAILED_BEFORE),
        lambda stripe: stripe.then(fault(429)),
    ],
)
def test_no_error_shows_the_key(stripe: FakeStripe, meter: StripeMeter, cause: Callable[[FakeStripe], object]) -> None:
    cause(stripe)
    for request in (lambda: meter.send(report()), lambda: meter.problem_of("cus_1")):
        try:
            request()
        except (StoppedError, InDoubtError, RefusedError) as error:
            assert "sk_test" not in f"{error!r}{error.__cause__!r}"


# Too many requests


def test_request_is_repeated_when_stripe_says(stripe: FakeStripe, meter: StripeMeter, time: Time) -> None:
    stripe.then(fault(429, Retry_After="7"), fault(429), fault(429, Retry_After="soon"), fault(429, Retry_After="9999"))
    meter.send(report())

    assert totals(stripe) == {SEVEN: 5}
    assert time.slept == [7, 1, 1, 60]


def test_run_stops_when_stripe_puts_off_for_ever(stripe: FakeStripe, meter: StripeMeter) -> None:
    before = len(stripe.requests)
    stripe.then(*[fault(429)] * 99)
    stripe.then(*[fault(429)] * 99, path="/v1/customers/cus_1")
    for request in (lambda: meter.send(report()), lambda: meter.problem_of("cus_1")):
        with pytest.raises(StoppedError, match="takes no more requests for the moment"):
            request()
    assert len(stripe.requests) - before == 2 * PATIENCE
    assert stripe.events == []


def test_pace_is_even_and_pauses_while_stripe_asks_to_wait(time: Time) -> None:
    pace = Pace(20, lambda: time.now, time.sleep)

    def slept(turns: int) -> list[float]:
        time.slept.clear()
        for _ in range(turns):
            pace.wait()
        return time.slept

    assert slept(5) == [0.05, 0.05]  # two turns before the first, which were missed
    time.now += 10  # no more than these are saved up
    assert slept(5) == [0.05, 0.05]
    pace.hold(5)
    pace.hold(2)
    assert slept(3) == [5, 0.05, 0.05]


def test_pace_gives_each_thread_a_turn_of_its_own() -> None:
    slept: list[float] = []
    pace = Pace(2, lambda: 100.0, slept.append)
    threads = [threading.Thread(target=pace.wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slept) == pytest.approx([n / 2 - 0.1 for n in range(1, 8)])


# Reading back


def test_hourly_totals_are_read_page_by_page(stripe: FakeStripe, meter: StripeMeter) -> None:
    hours = [SEVEN - n * HOUR for n in range(250)]
    for hour in hours:
        meter.send(report(hour=hour, value=hour.hour))

    found = meter.hourly_totals("cus_1", hours[-1], SEVEN + HOUR)
    assert found == {hour: hour.hour for hour in hours}
    assert stripe.counts()[f"GET {SUMMARIES.format(meter.id)}"] == 3
    assert meter.hourly_totals("cus_1", hours[10], hours[8]) == {hour: hour.hour for hour in hours[9:11]}
    assert meter.hourly_totals("cus_1", SEVEN + HOUR, SEVEN + 2 * HOUR) == {}


def test_totals_of_an_unknown_customer_are_refused(stripe: FakeStripe, meter: StripeMeter) -> None:
    with pytest.raises(RefusedError, match="No such customer: 'cus_2'"):
        meter.hourly_totals("cus_2", SEVEN, SEVEN + HOUR)


def test_total_that_is_no_whole_number_is_not_rounded(stripe: FakeStripe, client: StripeClient, time: Time) -> None:
    stripe.clock = NOW.timestamp
    stripe.add_meter("api-calls")
    stripe.add_customer("cus_1")
    payload = {"stripe_customer_id": "cus_1", "value": "0.5"}
    client.v1.billing.meter_events.create(
        {"event_name": "api-calls", "payload": payload, "timestamp": int(SEVEN.timestamp())}
    )

    with pytest.raises(RefusedError, match=r"shows 0.5 units of cus_1"):
        make(client, time).hourly_totals("cus_1", SEVEN, SEVEN + HOUR)


def test_problem_of_a_customer_is_that_it_is_unknown_or_deleted(stripe: FakeStripe, meter: StripeMeter) -> None:
    stripe.add_customer("cus_2")
    stripe.delete_customer("cus_2")

    assert meter.problem_of("cus_1") == ""
    assert "customer cus_2 was deleted at Stripe" in meter.problem_of("cus_2")
    assert "Stripe knows no customer cus_3" in meter.problem_of("cus_3")


@pytest.mark.parametrize("failed", [LOST_BEFORE, FAILED_BEFORE, fault(409)])
def test_question_without_an_answer_ends_the_run(stripe: FakeStripe, meter: StripeMeter, failed: Fault) -> None:
    stripe.then(failed, path=SUMMARIES.format(meter.id))
    with pytest.raises(StoppedError, match=r"no usable answer from Stripe .* about totals of cus_1; run again"):
        meter.hourly_totals("cus_1", SEVEN, SEVEN + HOUR)


# Error events


def test_rejections_name_reports_by_their_identifier_and_count_the_others(
    stripe: FakeStripe, meter: StripeMeter
) -> None:
    stripe.samples = 2
    for number in range(5):
        meter.send(report(f"cus_none_{number}"))
    meter.send(report())
    stripe.clock = (NOW + timedelta(minutes=1)).timestamp
    meter.send(report("cus_later"))
    stripe.clock = (NOW + timedelta(minutes=2)).timestamp

    found = meter.errors(NOW)
    assert [(each.identifier, each.count) for each in found] == [
        ("id-cus_none_0-20-07", 1),
        ("id-cus_none_1-20-07", 1),
        ("", 3),
        ("id-cus_later-20-07", 1),
    ]
    assert {each.code for each in found} == {"meter_event_customer_not_found"}
    assert "Stripe knows no such customer" in found[0].sentence
    later = datetime.fromisoformat(found[-1].created)
    assert meter.errors(later) == found[-1:]
    assert meter.errors(later + timedelta(seconds=1)) == []


def test_rejections_are_read_page_by_page(stripe: FakeStripe, meter: StripeMeter) -> None:
    for number in range(120):
        stripe.clock = (NOW + number * timedelta(seconds=20)).timestamp
        meter.send(report(f"cus_none_{number}"))
    stripe.clock = (NOW + HOUR).timestamp

    found = meter.errors(NOW)
    assert [each.identifier for each in found] == [f"id-cus_none_{number}-20-07" for number in range(120)]


def test_rejection_says_what_to_do_when_archived_or_of_an_unknown_kind(stripe: FakeStripe, meter: StripeMeter) -> None:
    stripe.meters.objects[meter.id]["status"] = "inactive"
    meter.send(report())
    stripe.clock = (NOW + timedelta(minutes=1)).timestamp

    [found] = meter.errors(NOW)
    assert (found.code, found.identifier) == ("archived_meter", "id-cus_1-20-07")
    assert "reactivate it" in found.sentence
    assert "(new_code)" in explanation("new_code")
