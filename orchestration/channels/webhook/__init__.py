"""A webhook of yours, signed by Standard Webhooks."""
