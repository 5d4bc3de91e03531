"""Slack as a channel of routes: the digest in its own form, every other message as a notice."""

from collections.abc import Mapping

from orchestration.channels.slack import channel
from orchestration.channels.slack.blocks import digest_payloads, notice_payloads
from orchestration.channels.slack.channel import SlackChannel
from orchestration.ledger.outbox import Promise
from orchestration.messages.message import Message
from orchestration.messages.vendor import Drawn, Target, Vendor
from orchestration.settings import Settings


def draw(message: Message, env: str, mentions: Mapping[str, str], with_files: bool = True) -> Drawn:
    """The message's blocks, and its replies."""
    if message.digest is not None:
        return digest_payloads(message.digest, message.table, env, mentions, with_files)
    return notice_payloads(message, env, mentions, with_files)


def open_channel(target: Target, config: Settings) -> SlackChannel:
    """A route with a channel of its own posts there whatever the audience; else the environment's channels hold."""
    token = target.secret("token") or (config.slack_bot_token and config.slack_bot_token.get_secret_value())
    if not token:
        raise ValueError("SLACK_BOT_TOKEN is not set: copy the bot token (xoxb-…) from the app's OAuth page")
    channels = dict.fromkeys(config.slack_channels, target.to) if target.to else config.slack_channels
    if not all(channels.values()):
        raise ValueError(channel.NO_CHANNEL)
    return SlackChannel(
        token,
        channels,
        target.secret("api_url") or config.slack_api_url,
        allowed=config.slack_allowed_channels,
        shared=config.slack_shared_channels,
        run_id=target.run_id,
    )


VENDOR = Vendor(
    title="Slack",
    promises=(Promise.EXACTLY_ONCE,),
    per_second=1,  # Slack: one message per second and channel, with short bursts
    open=open_channel,
    draw=draw,
    optional={"token": "a bot token (xoxb-…) in place of SLACK_BOT_TOKEN", "api_url": "another address of Slack's API"},
)
