"""What people answer in a thread, read by the real slack_sdk from a loopback Slack."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestration.channels.slack.channel import SlackChannel
from orchestration.ledger.ledger import Delivery, State
from orchestration.ledger.outbox import RefusedError
from orchestration.messages.dispositions import Answer
from orchestration.messages.vendor import Answering
from tests.fakes.slack import LOST_BEFORE, FakeSlack, Fault, rate_limited, refused
from tests.support.builders import NOW

REPLIES = "conversations.replies"
TOKEN = "xoxb-1234-very-secret"


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        server.token = TOKEN
        yield server


def answers(slack: FakeSlack, thread: dict[str, Any]) -> list[Answer]:
    channel = SlackChannel(TOKEN, {"sales": slack.channel}, slack.url)
    assert isinstance(channel, Answering)
    receipt = f"{slack.channel}/{thread['ts']}"
    delivery = Delivery("local|digest|x", "slack", {}, State.SENT, 1, NOW, NOW, NOW, receipt, None, None, None, None)
    return channel.answers(delivery)


def test_reactions_and_texts_of_a_thread_are_read_with_who_and_where(slack: FakeSlack) -> None:
    message = slack.post("digest", at=1_700_000_000)
    reply = slack.post("Dana: 3 accounts", thread=message["ts"])
    reply["bot_id"] = "B0HEADROOM"
    text = slack.post(":white_check_mark: Smith &amp; Sons &lt;3", thread=message["ts"], user="U0OMAR")
    slack.react(message, "eyes", "U0DANA")
    slack.react(reply, "x", "U0OMAR")
    slack.react(reply, "tada", "U0OMAR")

    top, below, here = (f"{slack.channel}/{each['ts']}" for each in (message, reply, text))
    at = datetime.fromtimestamp(float(text["ts"]), UTC)
    assert answers(slack, message) == [
        Answer(f"{top} :eyes:", top, "U0DANA", None, "👀", is_reaction=True),
        Answer(f"{below} :x:", below, "U0OMAR", None, "❌", is_reaction=True),
        Answer(here, top, "U0OMAR", at, "✅ Smith & Sons <3"),
    ]


def test_emoji_of_many_users_is_one_answer_by_the_first(slack: FakeSlack) -> None:
    message = slack.post("digest")
    for number in range(9):
        slack.react(message, "zzz", f"U{number}")

    [answer] = answers(slack, message)
    assert (answer.by, answer.text) == ("U0", "💤")


def test_edited_text_keeps_its_place_and_has_the_time_of_its_last_words(slack: FakeSlack) -> None:
    message = slack.post("digest", at=1_700_000_000)
    text = slack.post("won acme", thread=message["ts"], user="U0DANA")
    text["edited"] = {"user": "U0DANA", "ts": "1700000600.000000"}

    [answer] = answers(slack, message)
    assert answer.at == datetime.fromtimestamp(1_700_000_600, UTC)
    assert answer.source == f"{slack.channel}/{text['ts']}"


def test_thread_of_many_pages_is_read_to_its_end(slack: FakeSlack) -> None:
    slack.page_size = 2
    message = slack.post("digest")
    for number in range(5):
        slack.post(f"won a{number}", thread=message["ts"], user="U0DANA")

    assert [answer.text for answer in answers(slack, message)] == [f"won a{number}" for number in range(5)]
    assert slack.methods().count(REPLIES) == 3


@pytest.mark.parametrize("fault", [refused("thread_not_found"), rate_limited(30), LOST_BEFORE], ids=str)
def test_answers_that_slack_does_not_give_are_an_error_without_secrets(slack: FakeSlack, fault: Fault) -> None:
    message = slack.post("digest")
    slack.then(fault, method=REPLIES)

    with pytest.raises(RefusedError) as failure:
        answers(slack, message)
    assert TOKEN not in str(failure.value)
    assert slack.url not in str(failure.value)


def test_short_limit_of_rate_is_waited_for(slack: FakeSlack) -> None:
    message = slack.post("digest")
    slack.react(message, "eyes", "U0DANA")
    slack.then(rate_limited(0), method=REPLIES)

    assert len(answers(slack, message)) == 1
