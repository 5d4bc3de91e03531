"""Microsoft Teams, by the webhook of a workflow."""
