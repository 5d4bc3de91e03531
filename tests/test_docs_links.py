"""Every link between the repository's own texts leads somewhere: Markdown links, and `docs/page.md#heading` in code,
comments and descriptions.

Anchors are GitHub's. Addresses on the web are not checked: no test goes there.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = re.compile(r"(?<![\w./-])docs/(?:[\w-]+/)*[\w-]+\.md(?:#[\w-]+)?")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
NUMBERED = re.compile(r"\bD[1-9]\b")
"""What these references were before the definitions had a page: numbers of a paper that readers do not have."""
PAPER = {".png", ".lock", ".html", ".xz"}
"""Files that have no references of ours."""


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading, when it is the page's first of that name."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def prose(text: str) -> Iterator[str]:
    """The lines of a Markdown page that are not code."""
    is_fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        elif not is_fenced and not line.startswith("    "):
            yield line


def anchors(page: Path) -> set[str]:
    found: dict[str, int] = {}
    for line in prose(page.read_text(encoding="utf-8")):
        if match := re.fullmatch(r"#{1,6}\s+(.+?)\s*#*", line):
            name = slug(match[1])
            found[name] = found.get(name, 0) + 1
    return {name if number == 0 else f"{name}-{number}" for name, times in found.items() for number in range(times)}


def links(file: Path, root: Path) -> Iterator[tuple[str, Path, str]]:
    """What `file` points to: the words it uses, the target, and the anchor or an empty text."""
    text = file.read_text(encoding="utf-8")
    for match in REFERENCE.finditer(text):
        path, _, anchor = match[0].partition("#")
        yield match[0], root / path, anchor
    if file.suffix == ".md":
        for address in LINK.findall(re.sub(r"`[^`]*`", "", "\n".join(prose(text)))):
            if not re.match(r"\w+:", address):
                path, _, anchor = address.partition("#")
                yield address, file.parent / path if path else file, anchor


def broken(files: Iterable[Path], root: Path) -> list[str]:
    found = []
    for file in files:
        for address, target, anchor in links(file, root):
            if not target.exists():
                found.append(f"{file.relative_to(root)}: {address}: there is no such file")
            elif anchor and anchor not in anchors(target):
                found.append(f"{file.relative_to(root)}: {address}: the page has no such heading")
    return found


def texts() -> list[Path]:
    """The repository's own text files, new ones included."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    files = [ROOT / name for name in names if name and Path(name).suffix not in PAPER]
    return [file for file in files if file.is_file() and file != Path(__file__)]


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    assert broken(texts(), ROOT) == []


def test_definitions_are_referred_to_by_readme_code_models_and_tests() -> None:
    definitions = ROOT / "docs" / "meaning" / "definitions.md"
    pointing = {
        file.relative_to(ROOT).parts[0] for file in texts() for _, page, _ in links(file, ROOT) if page == definitions
    }
    assert {"orchestration", "dbt_project", "tests", "README.md"} <= pointing


def test_no_reference_is_to_a_number() -> None:
    assert [str(file) for file in texts() if NUMBERED.search(file.read_text(encoding="utf-8"))] == []


def test_link_to_a_renamed_heading_or_moved_file_is_broken(tmp_path: Path) -> None:
    (tmp_path / "docs" / "meaning").mkdir(parents=True)
    page, code = tmp_path / "docs" / "meaning" / "definitions.md", tmp_path / "model.sql"
    page.write_text("# Definitions\n\n## Days to cap\n\nSee [above](#definitions), [the model](../../model.sql).\n")
    code.write_text("-- docs/meaning/definitions.md#days-to-cap: whole weeks first.\n")
    assert broken([page, code], tmp_path) == []
    page.write_text(page.read_text().replace("## Days to cap", "## Days left"))
    assert broken([page, code], tmp_path) == [
        "model.sql: docs/meaning/definitions.md#days-to-cap: the page has no such heading"
    ]
    code.rename(tmp_path / "moved.sql")
    assert broken([page], tmp_path) == ["docs/meaning/definitions.md: ../../model.sql: there is no such file"]


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Days to cap", "days-to-cap"),
        ("Columns of `utilization_mtd`", "columns-of-utilization_mtd"),
        ("SQLite, and Postgres (both)", "sqlite-and-postgres-both"),
        ("[Crossings](#x) & news", "crossings--news"),
        ("What's new: 2-day", "whats-new-2-day"),
    ],
)
def test_slug_is_githubs(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_headings_in_code_have_no_anchor_and_equal_ones_are_numbered(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n```\n# Two\n```\n    # Three\n## One\n")
    assert anchors(page) == {"one", "one-1"}
