"""Build the site of docs/ strictly, with dbt's page in it: `.venv/bin/python -m tests.docs.site` in `make docs`.

The pages are for GitHub as well, and point to files of the repository. A copy of docs/ is built, in which these links
lead to copies of the files, so that the site is whole wherever it is put.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from os.path import relpath
from pathlib import Path

from orchestration.settings import PROJECT_ROOT
from tests.docs.site_faults import faults

DOCS = PROJECT_ROOT / "docs"
CONFIG = PROJECT_ROOT / "zensical.toml"
OUT = PROJECT_ROOT / "data" / "docs"
DBT_PAGE = OUT / "dbt" / "static_index.html"
"""What `dbt docs generate --static` wrote."""

_LINK = re.compile(r"\[((?:[^\]`]|`[^`]*`)*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"`[^`]*`")
_IMAGES = {".png", ".svg", ".jpg"}


class SiteError(Exception):
    """The site was not built. The message has what the builder said."""


def build(dbt_page: Path, out: Path, docs: Path = DOCS) -> Path:
    """The folder of the site, in `out`. Raises SiteError where a link leads nowhere."""
    pages = out / "docs"
    for left in (pages, out / "site"):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(docs, pages)
    (pages / "dbt").mkdir()
    shutil.copy(dbt_page, pages / "dbt" / "index.html")
    config = shutil.copy(CONFIG, out)
    for page in pages.rglob("*.md"):
        page.write_text("\n".join(_lines(page, pages, docs)) + "\n", encoding="utf-8")
    program = Path(sys.executable).with_name("zensical")
    command = [program, "build", "--strict", "--clean", "--config-file", config]
    done = subprocess.run(command, capture_output=True, text=True, env={"NO_COLOR": "1"})
    if done.returncode != 0:
        raise SiteError(re.sub(r"\x1b\[[0-9;]*m|(?s:Traceback.*)", "", done.stdout + done.stderr))
    if found := faults(out / "site"):
        raise SiteError("\n".join(found))
    return out / "site"


def _lines(page: Path, pages: Path, docs: Path) -> Iterator[str]:
    """The page for the builder. Links to files outside docs/ lead to copies, links to folders there are text.

    A bar in code in a table has a backslash for GitHub alone.
    """
    original = docs / page.relative_to(pages)
    is_code = False

    def link(match: re.Match[str]) -> str:
        words, address, _ = match.groups()
        target = (original.parent / address).resolve()
        if target.is_relative_to(docs):
            return match[0]
        if target.is_dir():
            return words
        name = str(target.relative_to(PROJECT_ROOT)).lstrip(".")
        copy = pages / "files" / (name if target.suffix in _IMAGES else f"{name}.txt")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(target, copy)
        return f"[{words}]({relpath(copy, page.parent)})"

    for line in page.read_text(encoding="utf-8").splitlines():
        is_code ^= line.lstrip().startswith("```")
        if line.startswith("|") and not is_code:
            line = _CODE.sub(lambda match: match[0].replace("\\|", "|"), line)
        yield line if is_code else _LINK.sub(link, line)


if __name__ == "__main__":
    try:
        site = build(DBT_PAGE, OUT)
    except SiteError as error:
        sys.exit(str(error))
    folder = site.relative_to(PROJECT_ROOT)
    sys.stdout.write(f"Open {folder}/index.html. With search: .venv/bin/python -m http.server -d {folder}\n")
