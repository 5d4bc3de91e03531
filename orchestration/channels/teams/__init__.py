"""Microsoft Teams: a card by the webhook of a workflow."""
