"""Pages over real marts: their figures are the marts', hostile names stay text, and a customer sees one account."""

import csv
import html
import io
import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
from starlette.testclient import TestClient

from orchestration.ledger import page_keys
from orchestration.messages.groups import GROUPS
from orchestration.settings import PROJECT_ROOT
from orchestration.usage.formatting import printable
from orchestration.warehouse import limits, page_queries, published_copy
from tests.orchestration.pages.conftest import Site
from tests.support.pages_world import HOSTILE, NOW

INTERNAL = ("/", "/top", "/changes", "/digests", "/quality")
MTD = "select * from utilization_mtd where not is_internal and not is_test order by account_id, meter"
ROW = re.compile(r'<tr data-account="([^"]*)" data-meter="([^"]*)">.*?data-used="(\d*)"', re.DOTALL)


def marts(site: Site, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    return published_copy.query(site.published, sql, parameters)


def path(account_id: str) -> str:
    return "/accounts/?id=.." if account_id == ".." else f"/accounts/{quote(account_id, safe='')}"


def test_table_has_the_figures_of_the_mart_on_all_its_pages(site: Site) -> None:
    client, found, number = site.inside(), [], 1
    while rows := ROW.findall(client.get(f"/?sort=name&page={number}").text):
        found += rows
        number += 1
    assert number > 2
    shown = sorted((html.unescape(account), meter, int(used)) for account, meter, used in found)
    assert shown == sorted((printable(row["account_id"]), row["meter"], row["used_mtd"]) for row in marts(site, MTD))


def test_filters_and_search_show_what_they_say(site: Site) -> None:
    client = site.inside()
    rows = marts(site, MTD)
    owner = next(row["owner"] for row in rows if row["owner"] and row["plan"])
    wanted = {row["account_id"] for row in rows if owner in (row["owner"], row["csm"])}
    text = client.get("/?format=csv", params={"owner": owner.upper(), "format": "csv"}).text
    assert {row["account_id"] for row in csv.DictReader(io.StringIO(text.lstrip("\ufeff")))} == wanted
    found = ROW.findall(client.get("/", params={"q": "SCRIPT>"}).text)
    assert {html.unescape(account) for account, _, _ in found} == {HOSTILE[0]}
    assert "No account matches" in client.get("/", params={"q": "' or 1=1 --"}).text


def test_first_accounts_are_those_of_the_first_groups_of_the_digest(site: Site) -> None:
    advised = {(row["account_id"], row["meter"]): row for row in marts(site, "select * from account_advice")}
    text = site.inside().get("/").text
    shown = [
        advised[key] for account, meter, _ in ROW.findall(text) if (key := (html.unescape(account), meter)) in advised
    ]
    places = [page_queries.ADVICE.index(row["advice"]) for row in shown]
    assert len(places) > 3
    assert places == sorted(places)
    assert all(html.escape(row["next_step"]) in text for row in shown)
    assert "over quota" in text


def test_every_advice_has_its_place_in_the_order_of_the_digest() -> None:
    with (PROJECT_ROOT / "dbt_project" / "seeds" / "routing.csv").open() as file:
        routed = {row["advice"] for row in csv.DictReader(file)}
    assert routed <= set(page_queries.ADVICE)
    ordered = [group.key for group in GROUPS if group.key in page_queries.ADVICE]
    assert [*ordered, "none"] == list(page_queries.ADVICE)


def test_sorted_column_says_so(site: Site) -> None:
    client = site.inside()
    assert re.findall(r'aria-sort="(\w+)"><a[^>]*>([^<]*)', client.get("/").text) == [("other", "What to do")]
    named = re.findall(r'aria-sort="(\w+)"><a[^>]*>([^<]*)', client.get("/?sort=name&plan=growth").text)
    assert named == [("ascending", "Account")]
    assert 'href="/?sort=pct&amp;plan=growth"' in client.get("/?sort=name&plan=growth").text


@pytest.mark.parametrize("query", ["sort=1;drop", "page=0", "page=-1", "page=²", "page=x"])
def test_wrong_question_gets_a_sentence(site: Site, query: str) -> None:
    answer = site.inside().get(f"/?{query}")
    assert answer.status_code == 400
    assert "That did not work" in answer.text


def test_largest_accounts_are_those_of_the_mart(site: Site) -> None:
    text = site.inside().get("/top").text
    top = marts(site, "select * from top_accounts_30d where meter = 'api-calls' order by volume_rank limit 20")
    shown = re.findall(r'data-account="([^"]*)".*?data-used="(\d+)"', text, re.DOTALL)
    expected = [(row["account_id"], row["used"]) for row in top]
    assert [(html.unescape(account), int(used)) for account, used in shown] == expected


def test_largest_accounts_are_of_the_chosen_meter(site: Site) -> None:
    client = site.inside()
    meters = [row["meter"] for row in marts(site, "select distinct meter from top_accounts_30d order by meter")]
    assert len(meters) > 1
    for meter in meters:
        text = client.get("/top", params={"meter": meter}).text
        offered = re.findall(r'<option value="([^"]*)"( selected)?>', text)
        assert offered == [(each, " selected" if each == meter else "") for each in meters]
        sql = "select used from top_accounts_30d where meter = $meter order by volume_rank, account_id limit 20"
        assert re.findall(r'data-used="(\d+)"', text) == [str(row["used"]) for row in marts(site, sql, meter=meter)]


def test_quality_has_the_counts_of_the_mart(site: Site) -> None:
    text, [quality] = site.inside().get("/quality").text, marts(site, "select * from data_quality")
    assert f'data-accepted="{quality["accepted_lines"]}"' in text
    assert f'data-rejected="{quality["rejected_lines"]}"' in text


@pytest.mark.parametrize("account_id", HOSTILE)
def test_hostile_names_are_text_on_every_page(site: Site, account_id: str) -> None:
    inside, customer = site.inside(), site.customer(account_id)
    answers = [inside.get(address) for address in (*INTERNAL, "/?q=script", path(account_id))]
    answers.append(customer.get("/u/"))
    for answer in answers:
        assert answer.status_code == 200
        assert "<script" not in answer.text
        assert "<b>" not in answer.text
        assert "\u202e" not in answer.text
    assert 'data-used="9"' in customer.get("/u/").text


def test_unknown_account_is_not_found_and_not_recorded(site: Site) -> None:
    answer = site.inside().get("/accounts/no-such-account")
    assert answer.status_code == 404


def test_customer_sees_the_period_against_the_quota_and_every_day(site: Site) -> None:
    text = site.customer("a/b").get("/u/").text
    assert "9 of 10 calls used, 1 Nov to 30 Nov 2026." in text
    assert len(re.findall(r"<rect[^>]*bar", text[: text.index("at-narrow", text.index("columned"))])) == 20  # zeros too
    assert re.search(r"80 %</th><td[^>]*>8</td><td>18 Nov 2026, 07:12", text)
    assert "projected" not in text.lower()


def test_customer_expects_no_alert_beyond_a_hard_limit(site: Site) -> None:
    sql = """
        select account_id, limit_kind, max(reached_at_units) > max(utilization.quota) as is_beyond
        from utilization_mtd as utilization join period_thresholds using (account_id, meter, period_start)
        where is_main and limit_kind is not null
        group by all having is_beyond
    """
    kinds = {row["limit_kind"]: row["account_id"] for row in marts(site, sql)}
    shown = {kind: site.customer(account).get("/u/").text for kind, account in kinds.items()}
    assert '<th scope="row">120 %</th>' in shown["soft"]
    assert '<th scope="row">120 %</th>' not in shown["hard"]


def test_refusal_leads_colleagues_back_and_nobody_else(site: Site) -> None:
    assert 'href="/">All accounts' in site.inside().get("/accounts/nobody").text
    stranger = TestClient(site.application, base_url="http://pages.test")
    assert "All accounts" not in stranger.get("/").text
    refused = stranger.get("/u/").text
    assert "Ask your contact for one." in refused
    assert not re.search("All accounts|Headroom|data team", refused)


def test_customer_sees_no_other_account(site: Site) -> None:
    named = [row["account_id"] for row in marts(site, MTD) if row["is_main"]]
    mine, *others = [name for name in named if name.isascii() and len(name) > 3]
    customer = site.customer(mine)
    texts = [customer.get("/u/").text]
    bearer = {"authorization": f"Bearer {site.secret(mine)}"}
    machine = TestClient(site.application, base_url="http://pages.test", headers=bearer)
    texts.append(machine.get("/v1/usage").text)
    texts.append(machine.get("/v1/usage", params={"after": "", "account_id": others[0]}).text)
    for text in texts:
        assert not [other for other in others if other in text]
    for other in (others[0], f"{mine}/../{others[0]}", mine.upper(), f"{mine} ", f"{mine}\u200b"):
        answer = machine.get(f"/v1/accounts/{quote(other, safe='')}/usage")
        assert answer.status_code == 404, other
        assert customer.get(path(other)).status_code == 401
    for address in (*INTERNAL, path(mine)):
        assert machine.get(address).status_code == 404
        assert customer.get(address).status_code == 401


def test_json_is_as_described_and_as_the_mart_has_it(site: Site) -> None:
    bearer = {"authorization": f"Bearer {site.secret(None)}"}
    client = TestClient(site.application, base_url="http://pages.test", headers=bearer)
    described = client.get("/openapi.json").json()
    answers = {"/v1/usage": client.get("/v1/usage").json()}
    rows = marts(site, "select * from utilization_mtd order by account_id, meter")
    for account_id in {row["account_id"] for row in rows}:
        address = f"/v1/accounts/{quote(account_id, safe='')}/usage"
        if account_id != "..":  # a client takes it for a folder
            answers[address] = client.get(address).json()
    for address, answer in answers.items():
        template = "/v1/usage" if address == "/v1/usage" else "/v1/accounts/{account_id}/usage"
        schema = described["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer, {**schema, "components": described["components"]})
    accounts = answers["/v1/usage"]["accounts"]
    shown = {(each["account_id"], meter["meter"]): meter["pct"] for each in accounts for meter in each["meters"]}
    assert shown == {
        (row["account_id"], row["meter"]): None if row["pct_of_cap"] is None else f"{row['pct_of_cap']:f}"
        for row in rows
    }


def test_answer_is_not_sent_again_until_the_figures_change(site: Site) -> None:
    bearer = {"authorization": f"Bearer {site.secret('a/b')}"}
    client = TestClient(site.application, base_url="http://pages.test", headers=bearer)
    first = client.get("/v1/usage")
    assert first.headers["cache-control"].startswith("private")
    again = client.get("/v1/usage", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.text) == (304, "")
    other = {"authorization": f"Bearer {site.secret('..')}", "if-none-match": first.headers["etag"]}
    assert client.get("/v1/usage", headers=other).status_code == 200


def test_limits_are_those_of_the_mart_and_as_described(site: Site) -> None:
    written = limits.write(site.published, "test", None)
    _, secret = page_keys.grant(site.ledger, "gate", None, NOW, NOW + timedelta(days=9_000), is_gate=True)
    client = TestClient(site.application, base_url="http://pages.test", headers={"authorization": f"Bearer {secret}"})
    answer, plain = client.get("/v1/limits"), {"accept-encoding": "identity"}

    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == written.path.read_bytes() == client.get("/v1/limits", headers=plain).content
    described = client.get("/openapi.json").json()
    schema = described["paths"]["/v1/limits"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json(), {**schema, "components": described["components"]})
    shown = {row[0]: row[2:6] for row in answer.json()["accounts"]}
    assert shown.keys() >= set(HOSTILE)
    rows = marts(site, "select * from utilization_mtd where meter = 'api-calls'")
    assert shown == {
        row["account_id"]: [
            row["plan"],
            row["limit_kind"],
            0 if row["quota_state"] == "blocked" else row["quota"],
            row["used_mtd"],
        ]
        for row in rows
    }
