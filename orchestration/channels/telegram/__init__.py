"""Telegram: messages of a bot in a chat, and silent replies for what follows them."""
