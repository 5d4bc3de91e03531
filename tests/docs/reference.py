"""Write the pages of docs/reference/ from the code: `make reference`."""

from orchestration.settings import PROJECT_ROOT
from tests.docs import commands_page, settings_page, tables_page

FOLDER = PROJECT_ROOT / "docs" / "reference"
PAGES = {"settings.md": settings_page.text, "cli.md": commands_page.text, "tables.md": tables_page.text}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in PAGES.items():
        (FOLDER / name).write_text(text(), encoding="utf-8")
