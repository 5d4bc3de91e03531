"""The blocks of README and docs that people type, as steps: commands, and what the page shows as their answers.

A block of `console` is run if its first line is a command, and one of `sh` is pasted as a whole, unless a comment above
the fence says why not:

    <!-- not run: it needs a cluster -->

A command begins with `$ ` and goes on in lines with `> `. What follows, up to the next command, is its answer. In it
`…` stands for any text, and neither blanks nor line breaks matter. A command may fail only where its answer is shown.
What is pasted has its answer below, in a sentence that begins with "The answer is".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(console|sh) *\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: [^>]*\w{3}[^>]* -->\n$")
ANSWER = re.compile(r"\s*The answer is `([^`]+)`")
PROMPT, CONTINUED = "$ ", "> "


@dataclass(frozen=True)
class Step:
    line: int
    """Where the command is in its page."""
    command: str
    answer: str
    """What the page shows; empty: nothing, and the command has to succeed."""


def steps(page: Path) -> list[Step]:
    """The commands of a page that are run, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Step] = []
    for block in FENCE.finditer(text):
        line = text[: block.start(2)].count("\n") + 1
        if NOT_RUN.search(text[: block.start()]):
            continue
        if block[1] == "sh":
            answer = ANSWER.match(text, block.end())
            found.append(Step(line, block[2].strip(), f"… {answer[1]} …" if answer else ""))
        elif block[2].startswith(PROMPT):
            found += _steps(block[2], line)
    return found


def _steps(block: str, line: int) -> Iterator[Step]:
    for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        more = next((n for n, text in enumerate(lines[1:]) if not _goes_on(lines[n], text)), len(lines) - 1)
        command = [lines[0].removeprefix(PROMPT), *(text.removeprefix(CONTINUED) for text in lines[1 : more + 1])]
        yield Step(line, "\n".join(command), "\n".join(lines[more + 1 :]).strip())
        line += len(lines)


def _goes_on(before: str, text: str) -> bool:
    return text.startswith(CONTINUED) or before.endswith("\\")


def is_answered(shown: str, said: str) -> bool:
    """Whether what a command said is what the page shows."""
    pattern = ".*?".join(re.escape(part.strip()) for part in _plain(shown).split("…"))
    return re.fullmatch(pattern, _plain(said), re.DOTALL) is not None


def _plain(text: str) -> str:
    """Without what depends on the width of a terminal."""
    return " ".join(re.sub(r"─+", "─", text).split())
