"""The pages of docs/reference/ are what the code says, and say it in words and links that a reader can use."""

import pytest
from pydantic import SecretStr

from orchestration.settings import Settings
from tests.docs import settings_page, tables_page
from tests.docs.markdown import COMMAND, cell, linked
from tests.docs.reference import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    is_same = (FOLDER / name).read_text(encoding="utf-8") == PAGES[name]()
    assert is_same, f"docs/reference/{name} is older than what it describes: run `{COMMAND}`"


@pytest.mark.parametrize(
    ("name", "value", "default"),
    [
        ("env", "text", "`local`"),
        ("data", "path", "`data`"),
        ("postgres_ledger", "**secret**", "none"),
        ("landing_copies", "`once` or `count`", "`once`"),
        ("landing_keep_days", "integer, at least 2", "none"),
        ("port", "integer, 1 to 65535", "`3000`"),
        ("stripe_requests_per_second", "number, above 0", "`20`"),
        ("slack_allowed", "text", "none"),
        ("slack_files", "`true` or `false`", "`true`"),
    ],
)
def test_setting_is_described_by_its_type_and_bounds(name: str, value: str, default: str) -> None:
    field = Settings.model_fields[name]
    assert (settings_page.kind(field), settings_page.default(field)) == (value, default)


def test_every_secret_is_marked() -> None:
    page = settings_page.text()
    secrets = {str(f.alias) for f in Settings.model_fields.values() if f.annotation == SecretStr | None}
    marked = {line.split("`")[1] for line in page.splitlines() if "| **secret** |" in line}
    assert marked == secrets


def test_default_that_a_description_names_is_in_its_column() -> None:
    assert "| `HEADROOM_LANDING` | folder of event files | path | landing in HEADROOM_DATA |" in settings_page.text()


def test_every_mart_and_seed_is_described() -> None:
    titles = {line.removeprefix("### ") for line in tables_page.text().splitlines() if line.startswith("### ")}
    files = [*tables_page.DBT.glob("models/marts/*.sql"), *tables_page.DBT.glob("seeds/*.csv")]
    assert titles == {file.stem for file in files}


def test_cell_is_one_line_without_marks() -> None:
    assert cell("a | b\n <id> `<id>`") == "a \\| b &lt;id> `<id>`"


def test_reference_in_a_description_is_a_link_on_the_page() -> None:
    words = "Too early is null (docs/meaning/definitions.md#days-to-cap)."
    assert linked(words) == "Too early is null ([days to cap](../meaning/definitions.md#days-to-cap))."
