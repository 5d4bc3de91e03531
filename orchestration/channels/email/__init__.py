"""E-mail over SMTP: what a message looks like as a letter, its MIME, and the conversation with the mail server."""
