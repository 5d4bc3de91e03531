"""Which user of a channel an owner is, for channels that cannot look a person up by e-mail address."""

import re


def users(listed: str) -> dict[str, str]:
    """The channel's users by e-mail address, from `ana@example.com=80351110224678912, ben@example.com=…`.

    :raises ValueError: it is not such a list; a sentence with the remedy.
    """
    pairs = [pair.strip() for pair in listed.split(",") if pair.strip()]
    matches = [re.fullmatch(r"([^\s=]+@[^\s=]+)\s*=\s*(\d+)", pair) for pair in pairs]
    found = {match[1]: match[2] for match in matches if match}
    if len(found) < len(pairs):
        raise ValueError("list users as an e-mail address, =, and the number of the user, with commas between them")
    return found
