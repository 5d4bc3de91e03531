"""Discord: messages of a bot in a channel, and a thread for what follows them."""
