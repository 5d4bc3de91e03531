"""Slack's payloads drawn in HTML: each kind of block, and texts that stay texts."""

import re
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest

from orchestration.channels.slack.blocks import digest_payloads
from orchestration.channels.slack.page import slack_page
from tests.support.builders import CHART, make_digest

AT = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
USERS = {"U1": "dana.reyes@example.com"}


def drawn(*blocks: dict[str, Any], **message: Any) -> str:
    """The HTML of a message's body."""
    page = slack_page("t", "s", {"message": {"text": "hello", "blocks": list(blocks), **message}}, [], USERS, AT)
    return page.partition("</time></p>")[2].partition("</article>")[0]


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def section(text: str, kind: str = "mrkdwn") -> dict[str, Any]:
    return {"type": "section", "text": {"type": kind, "text": text}}


def test_digest_is_drawn_with_its_thread_on_a_desk_and_on_a_phone() -> None:
    notes = [
        {"title": "Draft, not sent", "text": "Dear Ann,\n\nhello", "mailto": "mailto:ann@x.example?subject=a&body=b"}
    ]
    digest = make_digest(2, chart=CHART, name="A & <b>B</b>", notes=notes, url="https://crm.example.com/a?b=1")
    payload, replies = digest_payloads(digest, [{"account_id": "acme", "pct": 80}], "local", {})

    page = slack_page("Digest", "As it would be sent.", payload, replies, {}, AT)

    text = words(page)
    assert text.count("A & <b>B</b> · 83 k / 100 k (83 %), crossed") == 4
    assert "<b>B" not in page
    for part in (
        "As it would be sent.",
        "Notification 1 account",
        "# sales",
        "as on a phone",
        "08:05",
        "Dear Ann,",
        "20 lines rejected",
    ):
        assert part in text
    assert page.count('<img src="data:image/png;base64,') == 2
    assert page.count('<b><a href="https://crm.example.com/a?b=1">A &amp; &lt;b&gt;B&lt;/b&gt;</a></b>') == 8
    assert '<a href="mailto:ann@x.example?subject=a&amp;body=b">open as e-mail</a>' in page
    assert "usage-digest-local-2026-11-20.csv · 1 rows account_id pct acme 80" in text
    assert f"Thread {len(replies)} replies" in text


def test_mentions_are_shown_by_name() -> None:
    html = drawn({"type": "section", "fields": [{"type": "mrkdwn", "text": "<@U1> <@U2> <!here> <#C1|sales>"}]})

    assert html.count('<span class="mention">') == 4
    assert "dana.reyes" in html
    assert words(html) == "@dana.reyes @U2 @here sales"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*b* _i_ ~s~ `c`", "<b>b</b> <i>i</i> <s>s</s> <code>c</code>"),
        ("*<@U1>*", '<b><span class="mention">@dana.reyes</span></b>'),
        ("```*a*\n<b>```", "<pre>*a*\n&lt;b&gt;</pre>"),
        ("2*3*4 *b*s snake_case_name", "2*3*4 *b*s snake_case_name"),
        ("&lt;!channel&gt; &amp;lt;", "&lt;!channel&gt; &amp;lt;"),
        ("<https://example.com/?a=1&amp;b=2|run>", '<a href="https://example.com/?a=1&amp;b=2">run</a>'),
        ("<javascript:alert(1)|run>", "&lt;javascript:alert(1)|run&gt;"),
        ('<https://e.com/"onclick="x|"y">', '<a href="https://e.com/&#34;onclick=&#34;x">&#34;y&#34;</a>'),
    ],
)
def test_markup_is_drawn_as_slack_does(text: str, html: str) -> None:
    assert f"<p>{html}</p>" in drawn(section(text))


@pytest.mark.parametrize("text", ["<!channel>", "*b*", "<script>", "&amp;", "<https://e.com|x>"])
def test_plain_text_is_shown_as_it_is_whatever_it_holds(text: str) -> None:
    html = drawn(section(text, "plain_text"))

    assert words(html) == text
    assert html.count("<") == 5, "the paragraph, its block, the end of the body"


def test_every_other_block_shows_its_text() -> None:
    bold = {"type": "text", "text": "bold", "style": {"bold": True}}
    line = {"type": "rich_text_section", "elements": [bold, {"type": "user", "user_id": "U1"}]}
    cells = [{"type": "raw_text", "text": "<Acme>"}, {"type": "rich_text", "elements": [line]}]
    html = drawn(
        {"type": "header", "text": {"type": "plain_text", "text": "Head"}},
        {"type": "divider"},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "*foot*"}, {"type": "image", "alt_text": "icon"}]},
        {"type": "rich_text", "elements": [{"type": "rich_text_list", "elements": [line, line]}]},
        {
            "type": "rich_text",
            "elements": [{"type": "rich_text_list", "style": "ordered", "offset": 4, "elements": [line]}],
        },
        {"type": "image", "title": {"type": "plain_text", "text": "Calls"}, "alt_text": "bars"},
        {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Open"}}]},
        {"type": "carousel", "text": "<new>"},
        attachments=[{"blocks": [{"type": "data_table", "caption": "All", "rows": [cells, cells]}]}],
    )

    assert words(html) == (
        "Head foot icon bold @dana.reyes bold @dana.reyes bold @dana.reyes Calls Image: bars Open"
        ' {"type": "carousel", "text": "<new>"} All <Acme> bold @dana.reyes <Acme> bold @dana.reyes'
    )
    assert "<hr>" in html
    assert html.count("<b>bold</b>") == 5
    assert html.count("<li>") == 3
    assert '<ol start="5">' in html
    assert html.count("<td>") == 4


def test_message_without_blocks_is_its_text() -> None:
    assert words(drawn(text="<one> line")) == "<one> line"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", ""])
def test_link_of_another_kind_is_only_text(url: str) -> None:
    link = {"type": "link", "url": url, "text": "<Acme>", "style": {"bold": True}}
    html = drawn({"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [link]}]})

    assert "<b>&lt;Acme&gt;</b>" in html
    assert "href" not in html
