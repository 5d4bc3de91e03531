r"""The same text in JSON in other letters: `\u0068` for h, `\/` for a slash. What is searched for is found in each.

JSON within a string of JSON has its backslashes doubled, so any number of them begins an escape here. That takes a few
texts for an escape that are none: good enough to search in, never to be stored.
"""

import re

_ESCAPE = re.compile(rb"\\+(?:u00([2-7][0-9a-fA-F])|/)")


def written_out(text: bytes) -> bytes:
    """The text with ASCII characters in place of their escapes; the same object where it has none."""
    if rb"\u00" not in text and rb"\/" not in text:
        return text
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"/", text)


def spellings(word: bytes) -> re.Pattern[bytes]:
    """Finds the word in JSON, however each of its characters is written, with the backslashes before it.

    They are part of it so that what is cut out leaves no half of an escape: a backslash and n is a line break, though
    the word may begin with n.
    """
    return re.compile(rb"\\*" + b"".join(map(_spellings, word)))


def _spellings(character: int) -> bytes:
    plain = re.escape(bytes([character]))
    if character == ord("/"):
        plain = rb"\\*/"
    digits = f"{character:02x}"
    escaped = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits).encode()
    return rb"(?:%b|\\+u00%b)" % (plain, escaped)
