import pytest

from orchestration.settings import PROJECT_ROOT
from orchestration.usage.events import ACCOUNT_FIELDS, EVENT_NAMES, ID_FIELDS, TIME_FIELDS, Rejection


def test_rejection_explains_itself_for_every_reason() -> None:
    explanations = {reason: reason.explanation for reason in Rejection}

    assert len(set(explanations.values())) == len(Rejection)
    assert all(name in explanations[Rejection.UNKNOWN_EVENT] for name in EVENT_NAMES)
    assert all(name in explanations[Rejection.MISSING_ACCOUNT] for name in ACCOUNT_FIELDS)


@pytest.mark.parametrize(
    ("page", "fields"),
    [
        ("docs/data-in/files.md", ACCOUNT_FIELDS),
        ("docs/data-in/files.md", ID_FIELDS),
        ("docs/data-in/files.md", TIME_FIELDS),
        ("docs/meaning/definitions.md", ACCOUNT_FIELDS),
    ],
)
def test_page_lists_the_aliases_in_their_order(page: str, fields: tuple[str, ...]) -> None:
    text = " ".join((PROJECT_ROOT / page).read_text(encoding="utf-8").split())
    assert ", ".join(f"`{field}`" for field in fields) in text


def test_page_of_files_names_every_event() -> None:
    text = (PROJECT_ROOT / "docs" / "data-in" / "files.md").read_text(encoding="utf-8")
    assert [name for name in EVENT_NAMES if f"`{name}`" not in text] == []
