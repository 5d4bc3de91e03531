"""What a letter says and how it looks: as text, as HTML, and with names of somebody else in it."""

import base64
import csv
import io
import unicodedata
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.channels.email import drawing, plain
from orchestration.channels.email.drawing import HTML_BYTES, draw
from orchestration.channels.email.parts import inert, parts
from orchestration.messages.message import Line, Message, Section
from orchestration.messages.picture import picture
from tests.support.builders import CHART, make_digest, make_group

HOSTILE = [
    "<script>alert(1)</script><img src=https://evil.example/x.png>",
    "*bold* _it_ ~s~ `c` [a](https://evil.example) <https://evil.example|click>",
    "@everyone <!channel> <@U123> &amp; &lt;b&gt;",
    "https://evil.example/login and www.evil.example, mailto:x@evil.example",
    "line\r\nBcc: evil@example.com\r\n\r\nbody",
    "\u202eevil\u202c \u2066x\u2069 \x00\x07\x1b[31m \ud800",
    "<!-- repetition -->{{ 7 * 7 }}{% raw %}",
    "ш" * 512,
    "漢字" * 300,
]


class Page(HTMLParser):
    """The elements of a page, and its text as people see it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.comments = "", []  # type: ignore[var-annotated]
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def links(self) -> list[str | None]:
        return [attributes["href"] for tag, attributes in self.elements if tag == "a"]


def make_message(*lines: Line, **fields: Any) -> Message:
    known = {"key": "weekly|2026-W47", "audience": "cs", "title": "Week 47", "headline": "Week 47: 1 dropping"}
    return Message(**{**known, "sections": [Section("Dropping (1)", lines)] if lines else [], **fields})


def columns(line: str) -> int:
    """Without marks on other signs, and signs that nobody sees, such as the isolates around a name."""
    seen = [sign for sign in line if not unicodedata.combining(sign) and unicodedata.category(sign) != "Cf"]
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in seen)


def test_notice_has_its_lines_in_text_and_in_html() -> None:
    line = Line(
        "−60 %, 40 calls after 100", owner="dana@example.com", owner_name="Dana", name="Cedar", url="https://x/1"
    )
    payload, replies = draw(make_message(line, footer=["Data through 08:00"], notification="Cedar drops"), "local", {})

    assert replies == []
    assert payload["subject"] == "Week 47"
    assert payload["text"] == (
        "Week 47\n\nWeek 47: 1 dropping\n\nDropping (1)\n- Cedar · −60 %, 40 calls after 100 · Dana\n  https://x/1\n\n"
        "Data through 08:00\n"
    )
    page = Page(payload["html"])
    for said in ("Week 47: 1 dropping", "Dropping (1)", "Cedar", "−60 %, 40 calls after 100 · Dana", "Cedar drops"):
        assert said in page.text
    assert page.links() == ["https://x/1"]
    assert "dana@example.com" not in payload["html"] + payload["text"]


def test_digest_has_all_that_slack_has_in_its_thread() -> None:
    digest = make_digest(
        2,
        url="https://crm/1",
        chart=CHART,
        notes=[{"title": "Draft, not sent", "text": "Hi\n\nBye", "mailto": "mailto:a"}],
    )
    digest["groups"].append(
        make_group("do_not_pitch", 3, briefs=[{"name": "Maple", "url": "https://crm/2", "text": "122 %"}])
    )
    digest |= {
        "known": [{"title": "Used up earlier (4)", "lines": ["Acme: 4 of 3"], "more": 3}],
        "alerted": ["Blue 100 % at 14:00"],
        "notices": ["A rule changed"],
        "links": [{"text": "this run", "url": "https://dagster/runs/1"}],
    }
    message = make_message(digest=digest, table=[{"account": "acme", "used": 1}], key="digest|2026-11-20")
    payload, _ = draw(message, "local", {})

    page = Page(payload["html"])
    for text in (payload["text"].replace("\n  ", " "), page.text):
        for said in (
            "Call: upgrade (2)",
            "Dana Reyes: call and offer the scale plan (+$450 MRR)",
            "projected 145,000 · +3.2 points since yesterday 08:00",
            "Over quota, overage is cheaper: do not pitch (3)",
            "Maple 122 % · 2 more",
            "Alerted before this digest (1)",
            "Used up earlier (4)",
            "… and 3 more",
            "Acme · Draft, not sent",
            "A rule changed",
            "Data through 20 Nov 07:52 UTC",
            "this run",
        ):
            assert said in text
    assert page.links() == [*["https://crm/1"] * 2, "https://crm/2", "mailto:a", "mailto:a", "https://dagster/runs/1"]
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [image["src"] for image in images] == ["cid:chart-1", "cid:chart-2"]
    assert images[0]["alt"] == (
        "40 of 100 used after 3 of 30 days. Projected at the end of the period: 145, between 130 and 160."
    )
    assert [image["cid"] for image in payload["images"]] == ["chart-1", "chart-2"]
    assert base64.b64decode(payload["images"][0]["base64"]) == picture(CHART)


def test_accounts_that_need_no_action_have_their_details() -> None:
    digest = make_digest(1, group="will_not_run_out")
    payload, _ = draw(make_message(digest=digest), "local", {})
    assert "No action needed\n- Acme · 83 k / 100 k (83 %)" in payload["text"]


def test_charts_of_a_notice_are_drawn() -> None:
    payload, _ = draw(make_message(charts=[CHART]), "local", {})
    assert [image["name"] for image in payload["images"]] == ["chart-1.png"]
    assert "40 of 100 used after 3 of 30 days" in payload["text"]


def test_letter_to_a_customer_is_its_text_alone() -> None:
    body = "Hello Anna,\n\nYou used 98 %.\nSee <you>.\n\nIngrid"
    message = make_message(
        Line("not said"), body=body, footer=["not said"], table=[{"not": "said"}], title="Your usage"
    )
    payload, _ = draw(message, "local", {})

    assert (payload["subject"], payload["text"], payload["files"]) == ("Your usage", f"{body}\n", [])
    page = Page(payload["html"])
    assert [tag for tag, _ in page.elements if tag in ("p", "br", "h1")] == ["p", "p", "br", "p"]
    assert "See <you>." in page.text
    assert "not said" not in payload["html"]


@pytest.mark.parametrize("is_in_body", [False, True])
def test_unsubscribe_link_is_in_the_letter_once(is_in_body: bool) -> None:
    url = "https://example.com/u?x=1"
    message = make_message(body=f"Hello{f', {url}' if is_in_body else ''}", unsubscribe=url)
    payload, _ = draw(message, "local", {})

    assert payload["unsubscribe"] == url
    assert payload["text"].count(url) == 1
    assert Page(payload["html"]).links() == ([] if is_in_body else [url])


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://x/\r\nBcc: a@b", "https://x/><b>", "x"])
def test_address_that_is_no_link_is_left_out(url: str) -> None:
    payload, _ = draw(make_message(Line("used", name="Acme", url=url), unsubscribe=url), "local", {})

    assert payload["unsubscribe"] == ""
    assert Page(payload["html"]).links() == []
    assert "javascript" not in payload["html"]


def _with_name(name: str) -> dict[str, Any]:
    line = Line(f"used {name}", name=name, owner_name=name)
    return draw(make_message(line, title=name, headline=name, footer=[name]), "local", {})[0]


@pytest.mark.parametrize("name", HOSTILE)
def test_name_of_an_account_changes_neither_form(name: str) -> None:
    calm, page = (Page(_with_name(each)["html"]) for each in ("Acme", name))
    payload = _with_name(name)

    assert [tag for tag, _ in page.elements] == [tag for tag, _ in calm.elements]
    assert page.comments == [" repetition "]
    assert page.links() == []
    assert payload["html"].encode() and payload["text"].encode()
    for text in (payload["text"], page.text):
        for linked in ("https://evil", "www.evil.example", "@evil.example", "evil.example/"):
            assert linked not in text.replace("\n", "")
    assert "\n" not in payload["subject"] and len(payload["subject"]) <= 150


@given(st.text(max_size=400))
def test_lines_of_the_text_have_at_most_78_columns(text: str) -> None:
    message = make_message(Line(text, name=text), headline=text, body="")
    lines = draw(message, "local", {})[0]["text"].splitlines()
    assert all(columns(line) <= plain.COLUMNS for line in lines)


def test_words_are_kept_whole_where_they_have_room() -> None:
    assert plain.wrapped("- " + "word " * 20) == [
        "- " + " ".join(["word"] * 15),
        "  " + " ".join(["word"] * 5),
    ]
    url = "https://example.com/" + "x" * 100
    assert plain.wrapped(f"  see {url} there") == ["  see", f"  {url}", "  there"]
    assert plain.wrapped("x" * 100) == ["x" * 78, "x" * 22]
    assert plain.wrapped("") == [""]


def test_name_from_right_to_left_does_not_turn_the_figures() -> None:
    payload, _ = draw(make_message(Line("98 %", name="شركة 2024")), "local", {})
    assert "- \u2068شركة 2024\u2069 · 98 %" in payload["text"]
    assert "<bdi>شركة 2024</bdi>" in payload["html"]


def test_what_only_looks_like_a_link_becomes_none() -> None:
    assert inert("evil.example 3.4 v2.5, a. B") == "evil.\u2060example 3.4 v2.5, a. B"
    assert inert("http://10.0.0.1/x") == "http:\u2060//10.0.0.1/x"


def test_letter_stays_below_what_gmail_shows_and_counts_the_others() -> None:
    digest = make_digest(200, details=["x" * 400] * 6)
    payload, _ = draw(make_message(digest=digest), "local", {})

    assert len(payload["html"].encode()) <= HTML_BYTES
    assert "… and 175 more" in payload["text"]
    assert "… and 175 more" in Page(payload["html"]).text


def test_many_lines_are_cut_and_counted() -> None:
    [part] = parts(make_message(*[Line("x")] * 12), 10)
    assert (len(part.facts), part.more) == (10, 2)


def test_table_is_a_file_for_a_spreadsheet() -> None:
    rows = [{"account": "=cmd()", "used": 2**63}, {"account": "Ünï", "used": 1}]
    [file] = draw(make_message(table=rows, key="weekly|../W47"), "production", {})[0]["files"]

    assert file["name"] == "weekly-..-W47-production.csv"
    assert file["content"].startswith("\ufeff")
    assert list(csv.reader(io.StringIO(file["content"][1:]))) == [
        ["account", "used"],
        ["'=cmd()", str(2**63)],
        ["Ünï", "1"],
    ]


def test_large_table_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "ROWS", 2)
    payload, _ = draw(make_message(table=[{"account": "a"}] * 5), "local", {})

    assert len(payload["files"][0]["content"].splitlines()) == 3
    assert "The table leaves out 3 accounts after the first 2" in payload["text"]


def test_page_takes_nothing_from_elsewhere_and_knows_dark_screens() -> None:
    html = draw(make_message(Line("x", name="Acme", url="https://crm/1"), charts=[CHART]), "local", {})[0]["html"]
    page = Page(html)

    assert {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "video", "form"} == set()
    assert all((attributes.get("src") or "cid:").startswith("cid:") for _, attributes in page.elements)
    assert "url(" not in html and "@import" not in html
    assert "prefers-color-scheme: dark" in html
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.elements
