"""The page of an account: its figures are the marts', its record the ledger's, and no name on it becomes markup."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from orchestration import settings
from orchestration.ledger import page_keys, page_views
from orchestration.ledger.ledger import Ledger
from orchestration.messages.message import Line, Message, Section, to_json
from orchestration.pages import app
from orchestration.warehouse import account_usage
from orchestration.warehouse.published_copy import query
from tests.support.builders import land, make_event, make_quota
from tests.support.pipeline import build_marts

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
HOSTILE = {
    "<script>alert(1)</script>": "<img src=x onerror=alert(1)>",
    "a/b": 'Quoted "& Sons"',
    "..": "Two dots",
    "משרד‮": "‮drawkcab",
    "é" * 512: "Long",
}
Get = Callable[..., Any]


def _events() -> Iterator[dict[str, Any]]:
    """acme uses 5 calls a day of 100, more in October; a token meter, and calls that fail."""
    for day in range(31):
        at = datetime(2026, 10, 20, 9, tzinfo=UTC) + timedelta(days=day)
        for number in range(5):
            called = (at + timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
            if called < f"{NOW:%Y-%m-%dT%H:%M:%SZ}":
                properties = {"account_id": "acme", "endpoint": "/v1/<b>", "status": 429 if number == 4 else 200}
                yield make_event("acme", called, properties=properties)
    yield make_event("acme", "2026-11-20T07:00:00Z")
    refused = {"account_id": "nobody-knows", "endpoint": "/v1/refused", "sample_weight": 15}
    yield make_event(event="api_call_refused", uuid="refused", properties=refused)
    for account in (*HOSTILE, "nobody-knows"):
        yield make_event(account, "2026-11-19T12:00:00Z", uuid=f"event-{account[:40]}")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    data = tmp_path_factory.mktemp("account") / "data"
    (data / "landing").mkdir(parents=True)
    names = {"acme": "Acme Corp", **HOSTILE, "nobody-knows": "Without quota"}
    rows = [{"account_id": account, "name": name, "owner": "dana.reyes@example.com"} for account, name in names.items()]
    quoted = [[*(row[column].replace('"', '""') for column in ("account_id", "name", "owner"))] for row in rows]
    lines = [",".join(f'"{cell}"' for cell in row) for row in quoted]
    (data / "accounts.csv").write_text("\n".join(["account_id,name,owner", *lines]) + "\n")
    land(
        data / "landing",
        "quotas.ndjson",
        *(make_quota(each, 100, uuid=f"q-{each[:40]}") for each in ("acme", *HOSTILE)),
    )
    land(data / "landing", "raised.ndjson", make_quota("acme", 110, "2026-11-10T12:00:00Z"))
    land(data / "landing", "calls.ndjson", *_events())
    tokens = {"account_id": "acme", "total_tokens": 1200, "model": "large"}
    land(data / "landing", "tokens.ndjson", make_event("acme", event="llm_request", uuid="t", properties=tokens))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(data))
        yield build_marts(data, data / "landing", NOW)


@pytest.fixture
def get(published: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Get]:
    """Ask as a colleague. The ledger is a new one."""
    (data / "published.duckdb").hardlink_to(published)
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    _, secret = page_keys.grant(_ledger(), "CS team", None, NOW, NOW + timedelta(days=1))
    with ExitStack() as stack:
        client = stack.enter_context(TestClient(app.build(settings.load(), lambda: NOW)))
        client.headers["authorization"] = f"Bearer {secret}"
        yield client.get


def _ledger() -> Ledger:
    return Ledger(settings.load().ledger_url)


def _row(published: Path, account: str = "acme", meter: str = "api-calls") -> dict[str, Any]:
    sql = "select * from utilization_mtd where account_id = $account and meter = $meter"
    [row] = query(published, sql, {"account": account, "meter": meter})
    return row


def _shown(html: str) -> str:
    """What people read, on one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_figures_are_those_of_the_mart(get: Get, published: Path) -> None:
    row, shown = _row(published), _shown(get("/accounts/acme").text)
    assert (row["used_mtd"], row["quota"]) == (96, 110)
    assert "Used 96 of 110 calls" in shown
    assert "Of the quota 87.2 %" in shown  # cut off
    assert f"Remaining {row['remaining']} calls" in shown
    assert f"Projected {row['projected_eom']}" in shown
    assert "Resets 1 Dec 00:00 UTC, calendar month from 1 Nov 2026" in shown


def test_advice_is_that_of_the_mart(get: Get, published: Path) -> None:
    [advice] = query(published, "select * from account_advice where account_id = 'acme' and meter = 'api-calls'")
    shown = _shown(get("/accounts/acme").text)
    assert advice["next_step"] in shown
    assert "Dana Reyes, by" in shown
    assert "Why: " in shown


def test_last_week_is_what_the_command_says(get: Get, published: Path) -> None:
    zone = settings.load().zone
    monday = date(2026, 11, 9)
    _, days = account_usage.usage(published, "acme", monday, monday + timedelta(days=7), zone)
    used = sum(day["calls"] for day in days)
    assert f"Last week {used} calls 9 Nov to 15 Nov 2026, ISO week 46" in _shown(get("/accounts/acme").text)


def test_days_that_somebody_asks_for_are_shown(get: Get) -> None:
    shown = _shown(get("/accounts/acme?from=2026-11-02&to=2026-11-03").text)
    assert "2 Nov 2026 to 3 Nov 2026 (UTC days): 10 calls" in shown


def test_csv_has_the_days_of_the_page(get: Get) -> None:
    answer = get("/accounts/acme?from=2026-11-19&to=2026-11-20&format=csv")
    lines = answer.text.removeprefix("\ufeff").splitlines()
    assert lines[0] == "account_id,meter,usage_date,calls,units,unit,is_complete"
    assert lines[1:] == ["acme,api-calls,2026-11-19,5,5,calls,True", "acme,api-calls,2026-11-20,1,1,calls,False"]
    assert 'filename="usage-acme-api-calls-2026-11-19-2026-11-20.csv"' in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    "asked",
    ["from=x", "from=2026-11-05&to=2026-11-01", "from=2027-01-01", "from=1999-01-01&to=2026-11-01", "meter=none"],
)
def test_what_cannot_be_answered_is_refused(get: Get, asked: str) -> None:
    answer = get(f"/accounts/acme?{asked}")
    assert answer.status_code == 400
    assert "<h1>That did not work</h1>" in answer.text


def test_each_meter_has_its_own_view(get: Get, published: Path) -> None:
    row = _row(published, meter="tokens")
    shown = _shown(get("/accounts/acme?meter=tokens").text)
    assert row["used_mtd"] == 1200
    assert "Used 1,200 tokens, quota not known" in shown
    assert "Nobody has sent a quota for tokens, so there is no percentage." in shown
    assert "Usage of tokens is not billed through Headroom." in shown
    assert "Top values of model" in shown and "large 1,200 100 %" in shown


def test_quota_line_stands_at_the_quota(get: Get, published: Path) -> None:
    html = get("/accounts/acme").text
    chart = html[html.index('class="chart period at-wide"') :]
    [y] = re.findall(r'class="quota"[^>]*?y1="([\d.]+)"', chart)[:1]
    [projected] = re.findall(r'class="projected" points="[\d.]+,([\d.]+)', chart)[:1]
    ticks = [float(each) for each in re.findall(r'class="grid"[^>]*?y1="([\d.]+)"', chart)]
    bottom, top = max(ticks[:5]), min(ticks)
    assert top < float(y) < bottom
    # 110 calls are higher than the 96 that the projection begins with, by 14 parts of 96 of its height
    assert (bottom - float(y)) / (bottom - float(projected)) == pytest.approx(110 / 96, rel=0.01)
    assert "quota 110" in chart
    assert f"{_row(published)['used_mtd']} of 110 used so far." in _shown(
        html
    )  # as above the chart, not up to the last whole day
    assert "Crossed: 50 %, 80 %" in _shown(html)


def test_endpoints_errors_and_hours_are_shown(get: Get) -> None:
    shown = _shown(get("/accounts/acme").text)
    assert "Top endpoints, last 7 UTC days" in shown
    assert "&lt;b&gt;" in get("/accounts/acme").text
    assert "Last 7 days 35 20 % 20 %" in shown
    assert "Busiest from 09:00" in shown
    assert "gate" not in shown


def test_refused_calls_are_said_and_are_no_usage(get: Get, published: Path) -> None:
    shown = _shown(get("/accounts/nobody-knows").text)
    assert "/v1/refused 0 0 % 0 15 0" in shown
    assert "Last 7 days 1 93 % 93 %" in shown
    assert "A gate refused 15 calls as well: they are in these shares, and are not usage." in shown
    assert _row(published, "nobody-knows")["used_mtd"] == 1


@pytest.mark.parametrize("account", [pytest.param(each, id=str(n)) for n, each in enumerate(HOSTILE)])
def test_hostile_names_stay_text(get: Get, account: str) -> None:
    path = f"/accounts/?id={quote(account)}" if account == ".." else f"/accounts/{quote(account, safe='')}"
    answer = get(path)
    assert answer.status_code == 200
    assert "<script>" not in answer.text and "<img" not in answer.text and "\u202e" not in answer.text
    assert "Used 1 of 100 calls" in _shown(answer.text)
    views = page_views.newest(_ledger(), 5, account_id=account)
    assert [view.page for view in views] == ["account"]


def test_account_that_is_unknown_gets_the_nearest_names(get: Get) -> None:
    answer = get("/accounts/acmee")
    assert answer.status_code == 404
    assert "acme (Acme Corp)" in answer.text
    assert "did you mean acme (Acme Corp)" in _shown(get("/accounts/Acme%20Corp").text)
    assert page_views.newest(_ledger(), 5) == []


def test_account_without_a_quota_says_so(get: Get) -> None:
    shown = _shown(get("/accounts/nobody-knows").text)
    assert "Used 1 call, quota not known" in shown
    assert "There is nothing to draw yet" in shown
    assert "No message was about this account." in shown
    assert "Not billed through Headroom: the account has no Stripe customer." in shown


def test_what_was_said_is_listed_with_its_routes(get: Get) -> None:
    ledger = _ledger()
    line = Line("80 / 100", account_id="acme", meter="api-calls", name="Acme Corp")
    said = to_json(Message("digest|2026-11-19", "sales", "Digest", "One", [Section("Call", [line])]))
    key, at = "local|digest|2026-11-19", NOW - timedelta(days=1)
    crossing = {"env": "local", "account_id": "acme", "meter": "api-calls", "quota": 110, "threshold": "80%"}
    crossing |= {"period_start": datetime(2026, 11, 1, tzinfo=UTC), "crossed_at": at, "detected_at": at}
    with ledger.transaction() as connection:
        ledger.prepare(connection, key, "slack", said, at)
        ledger.record_crossings(connection, [{**crossing, "outcome": "announced", "message_key": key}])
    html = get("/accounts/acme").text
    assert '<a href="/digests/2026-11-19">Digest</a>' in html
    assert "80 % slack: not sent yet" in _shown(html)
