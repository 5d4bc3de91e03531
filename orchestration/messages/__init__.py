"""What is said, pure: which crossings are news (crossings), the words (wording, account_wording), and each message.

A message is plain data. How it looks is a channel's business, and no channel is known here.
"""
