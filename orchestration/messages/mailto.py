"""A draft as a link that opens it in the reader's mail program, with address, subject and text."""

import re
from urllib.parse import quote

CHARACTERS = 1_900
"""Of a link: mail programs and browsers cut longer ones, Outlook for Windows at about 2,000."""
_HEADERS = re.compile(r"To: (?P<to>[^\n]*)\nSubject: (?P<subject>[^\n]*)\n\n(?P<body>.*)", re.DOTALL)
_ADDRESS = re.compile(r"[^\s@<>,;?&]+@[^\s@<>,;?&]+")


def link(draft: str) -> str:
    """The link of a draft that begins with lines To and Subject; empty where it has none, or nobody to write to.

    A text that is too long is left out: the draft is beside the link.
    """
    found = _HEADERS.match(draft)
    if found is None or not _ADDRESS.fullmatch(found["to"].strip()):
        return ""
    start = f"mailto:{quote(found['to'].strip(), safe='@')}?subject={quote(found['subject'].strip(), safe='')}"
    whole = f"{start}&body={quote(found['body'].strip(), safe='')}"
    return next((each for each in (whole, start) if len(each) <= CHARACTERS), "")
