"""What the pages say is plain English, by the rules of tests/test_words.py. A page that is not yet is still to be
rewritten, or made from the code.
"""

import re
from collections.abc import Iterator

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.support.words import Text
from tests.test_words import faults

NOT_YET = {
    *("data-in/events", "reference/cli", "reference/settings", "reference/tables"),  # made from the code
}
PAGES = {str(path.relative_to(PROJECT_ROOT / "docs")): path for path in (PROJECT_ROOT / "docs").rglob("*.md")}
PAGES["README.md"] = PROJECT_ROOT / "README.md"
CODE = re.compile(r"^```.*?^```$|^    \S.*?$|<!--.*?-->|\]\([^)]*\)", re.MULTILINE | re.DOTALL)
ITEM = re.compile(r"\n\s*\n|\n(?=\s*- |\d+\. |#|\|)")


def prose(page: str) -> Iterator[str]:
    """Paragraphs, items of lists and cells of tables."""
    for part in ITEM.split(CODE.sub("", page)):
        for words in part.strip().strip("|").split(" | ") if part.startswith("|") else [part]:
            yield " ".join(words.split())


@pytest.mark.parametrize("name", sorted(name for name in PAGES if name.removesuffix(".md") not in NOT_YET))
def test_page_is_plain_english(name: str) -> None:
    page = PAGES[name].read_text(encoding="utf-8").replace("me@example.com", "")
    assert [fault for words in prose(page) for fault in faults(Text(name, 0, words)) if "semicolons" not in fault] == []


def test_pages_that_are_not_yet_are_there() -> None:
    assert {f"{name}.md" for name in NOT_YET} <= set(PAGES)


def test_prose_has_no_code_and_each_cell_by_itself() -> None:
    page = "# Title\n\nOne two.\n\n```sh\nls\n```\n- an [item](a.md)\n  goes on\n\n| a | b |\n|---|---|\n| c | d e |\n"
    assert [words for words in prose(page) if words.strip("-|")] == [
        *("# Title", "One two.", "- an [item goes on", "a", "b", "c", "d e")
    ]


def test_readme_is_read_in_five_minutes() -> None:
    page = PAGES["README.md"].read_bytes()
    assert (len(page.splitlines()) <= 150, len(page) <= 9 * 1024) == (True, True)
