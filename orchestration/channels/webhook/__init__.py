"""A webhook of yours, by Standard Webhooks: messages as plain data, signed, for programs."""
