"""Digests are shown as they were sent; what became of them is known now."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from orchestration import settings
from orchestration.ledger import decided, dispositions, page_keys
from orchestration.ledger.dispositions import Said
from orchestration.ledger.ledger import Ledger, State
from orchestration.messages.digest_message import digest_message
from orchestration.messages.message import to_json
from orchestration.pages import app
from tests.support.builders import NOW, make_digest, make_group
from tests.support.duckdb_file import opened

COPY = """
    create table data_quality as
    select timestamp '2026-11-20 07:58:00' as as_of, timestamp '2026-11-20 07:50:00' as data_through;
    create table utilization_mtd as
    select 'acme' as account_id, 'api-calls' as meter, true as is_main, 'calls' as unit,
        timestamp '2026-11-01' as period_start, 'limited' as quota_state, 200000::bigint as quota,
        91000::bigint as used_mtd, 45.5::decimal(24, 6) as pct_of_cap, null::decimal(24, 6) as ci95_pct;
    create table alert_outcomes as
    select 'acme' as account_id, 'api-calls' as meter, timestamp '2026-11-20 08:00:00' as alerted_at,
        'won' as disposition, timestamp '2026-11-21 10:00:00' as quota_raised_at, 200000::bigint as new_quota,
        'growth' as plan, 'scale' as new_plan, 450.00::decimal(18, 2) as mrr_delta
"""
Get = Callable[..., Any]


@pytest.fixture
def get(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Get]:
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    with opened(data / "published.duckdb") as connection:
        connection.execute(COPY)
    _, secret = page_keys.grant(_ledger(), "CS team", None, NOW, NOW + timedelta(days=1))
    with TestClient(app.build(settings.load(), lambda: NOW)) as client:
        client.headers["authorization"] = f"Bearer {secret}"
        yield client.get


def _ledger() -> Ledger:
    return Ledger(settings.load().ledger_url)


def _decide(on: str = "2026-11-20", state: State = State.SENT, **fields: Any) -> str:
    """A digest in the ledger, sent to Slack; its key."""
    ledger, key = _ledger(), f"local|digest|{on}"
    digest = {**make_digest(), "date": on, **fields}
    with ledger.transaction() as connection:
        decided.record(connection, key, to_json(digest_message(digest, ())), NOW)
        ledger.prepare(connection, f"{key}|slack", "slack", {"message": {}}, NOW, message=key)
    delivery = ledger.delivery(f"{key}|slack")
    assert delivery
    ledger.finish(delivery, state, NOW, "C/1", None)
    ledger.remember_permalink(delivery.key, "https://example.slack.com/archives/C1/p1")
    return key


def _shown(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_digest_has_the_words_and_figures_of_its_morning(get: Get) -> None:
    _decide()
    answer = get("/digests/2026-11-20")
    shown = _shown(answer.text)
    assert "1 account crossed a threshold." in shown
    assert "Call: upgrade (1) Acme · 83 k / 100 k (83 %), crossed 80 % today 04:12 · runs out Tue 24 Nov" in shown
    assert "Dana Reyes: call and offer the scale plan (+$450 MRR)" in shown
    assert "Data through 20 Nov 07:52 UTC · 20 lines rejected" in shown
    assert '<a href="/accounts/acme">Acme</a>' in answer.text


def test_digest_says_where_it_went_and_what_became_of_it(get: Get) -> None:
    key, ledger = _decide(), _ledger()
    delivery = ledger.delivery(f"{key}|slack")
    assert delivery
    dispositions.keep(ledger, "local", delivery, [Said("C/1 👀", "acme", "api-calls", "contacted", "U1", NOW)], NOW)
    answer = get("/digests/2026-11-20")
    shown = _shown(answer.text)
    assert "slack : sent, 20 Nov 2026, 08:00" in shown
    assert 'href="https://example.slack.com/archives/C1/p1"' in answer.text
    assert "contacted, 20 Nov 2026, 08:00" in shown
    assert "quota raised to 200,000 calls with the plan scale on 21 Nov 2026, 10:00 (+450 MRR)" in shown
    assert "91,000 of 200,000 calls, 45.5 %" in shown


def test_lines_of_names_and_the_rest_are_counted(get: Get) -> None:
    briefs = [{"name": "Globex", "url": "", "text": "−51 % in 7 days"}]
    _decide(items=[], groups=[make_group("csm_check_in", 4, briefs=briefs, more=3)])
    shown = _shown(get("/digests/2026-11-20").text)
    assert "Usage dropped or stopped: check in (4) Globex −51 % in 7 days … and 3 more" in shown


def test_digest_from_before_routes_shows_its_text(get: Get) -> None:
    ledger = _ledger()
    rich = {
        "type": "rich_text",
        "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": "Acme"}]}],
    }
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "2 accounts <b>crossed</b>"}}, rich]
    with ledger.transaction() as connection:
        payload = {"message": {"text": "Usage digest", "blocks": blocks}}
        ledger.prepare(connection, "local|digest|2026-11-19", "slack", payload, NOW)
    answer = get("/digests/2026-11-19")
    assert "<p>2 accounts &lt;b&gt;crossed&lt;/b&gt;</p><p>Acme</p>" in answer.text
    assert "An earlier version of Headroom sent this digest" in answer.text


def test_hostile_names_in_a_digest_stay_text(get: Get) -> None:
    item = {**make_digest()["items"][0], "name": "<script>alert(1)</script>", "account_id": "../a?b", "details": []}
    _decide(items=[item], headline="<img src=x>", title="<b>Digest\u202e")
    answer = get("/digests/2026-11-20")
    assert not re.search(r"<script>|<img|<b>|\u202e", answer.text)
    assert 'href="/accounts/..%2Fa%3Fb"' in answer.text


def test_list_has_each_digest_with_its_state(get: Get) -> None:
    _decide("2026-11-19", State.PREVIEWED)
    _decide("2026-11-20")
    shown = _shown(get("/digests").text)
    assert shown.index("Fri 20 Nov 2026 0 slack : sent") < shown.index("Thu 19 Nov 2026 0 slack : not sent")
    html = get("/digests/2026-11-20").text
    assert '<a href="/digests/2026-11-19" rel="prev">' in html and 'rel="next"' not in html


def test_list_without_a_digest_says_when_the_first_follows(get: Get) -> None:
    assert "The first one follows at 8am" in get("/digests").text


@pytest.mark.parametrize("on", ["2026-11-18", "20261118", "x", "2026-11-20|slack", "%2e%2e"])
def test_digest_that_is_not_there_is_not_found(get: Get, on: str) -> None:
    _decide()
    assert get(f"/digests/{on}").status_code == 404


def test_account_that_is_gone_is_no_longer_counted(get: Get) -> None:
    item = {**make_digest()["items"][0], "account_id": "gone", "name": "Gone"}
    _decide(items=[item])
    assert "Gone none yet not raised no longer counted" in _shown(get("/digests/2026-11-20").text)
