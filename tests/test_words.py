"""What people read is plain English: `tests/support/words.py` collects it, and here it is judged.

The rules are those of docs/contribute.md#words. A room that is not in ROOMS yet is still to be rewritten.
"""

import re
from pathlib import Path
from typing import get_args

import pytest

from orchestration.settings import Settings
from tests.support import words
from tests.support.words import Text

ROOT = Path(__file__).parents[1]
MOST_WORDS = 20
ROOMS = ["cli", "defs", "billing", "channels/stripe", "channels/postgres", "collector", "demo", "lake", "ledger"]
ROOMS += ["channels/email", "channels/webhook"]
ROOMS += ["channels/slack", "messages", "settings.py", "usage", "warehouse"]
ROOMS += ["channels/discord", "channels/telegram", "channels/teams", "pages"]

NOT_SAID = {
    "orchestration/cli/run.py": "telemetry: {enabled: false}",  # a file for Dagster
    "orchestration/demo/plan.py": "amber atlas",  # names of accounts
    "orchestration/messages/environment.py": "(?P<",  # a pattern
    "orchestration/lake/deduplication.py": "earlier.source",  # SQL, and so are the next ones
    "orchestration/lake/event_sql.py": "try_cast",
    "orchestration/lake/meter_sql.py": "own_quotas",
    "orchestration/lake/number_sql.py": "regexp_full_match",
    "orchestration/lake/time_sql.py": "try_cast",
    "orchestration/warehouse/clickhouse/load.py": "create table",
}
"""A part of each literal that is not a sentence, by its module."""

BANNED = re.compile(
    r"""(?xi)\b(?:
    anew | whoever | such\ a\ one | stands?\ there | behind\ (?:it|them) | come\ this\ far | told | held\ up
    | looked\ at | any\ ?more | for\ ever | everybody | cannot\ be\ told | comes?\ close | in\ hand | dealt\ with
    | taken\ over | (?<!there\ )(?:is|are|was|were)\ no\ (?!longer|more) | nobody\ looks | as\ (?:it|they)\ must\ be
    )\b"""
)
"""Phrases of the phrase book (was), and those that docs/contribute.md names."""
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}", re.IGNORECASE)
OWN_ADDRESS = re.compile(r"user:password@host")
ONE_OF_MANY = re.compile(
    r"\b1 (?:account|batch|call|customer|day|event|file|hour|invoice|line|month|period|report|row|unit|week)(?:e?s)\b"
)
NOUNS = (
    "account batch byte call column customer day delivery event file folder hour invoice item key line message meter"
    " minute model month period plan point report row run second subscription test threshold time unit value week"
)
BARE_COUNT = re.compile(
    r"\{n?\} (?:[a-z]+ed )?(?:" + "|".join(f"{noun}e?s" for noun in NOUNS.split()) + r"|deliveries)\b"
)
"""A count before a plural, put in as it is: of one it would say 1 calls."""
NEVER_ONE = (
    "{} times the units",
    "no usage older than {} days",
    "has {} items on the meter",
    "{} items bill the same usage",
    "is {} seconds {}",
    "Stripe shows {} units of {}: no whole number",
    *("more than {} times longer", "longer than {} bytes", "more than {} events", "cut off: {} bytes"),
    "{n} files are copies of others",
    "keep at least {} days",
    "{n} accounts are called {}",
    "names {} {} times",
    "{} is {} in {} rows",
    *("the number of {} events", "of {} of {} events"),  # names of events
)
"""Where the count is more than one, by the code above it or as a constant."""


def faults(text: Text) -> list[str]:
    """What is wrong with a text, each with the place."""
    found = [
        f"{text.path}:{text.line}: {length} words: {sentence}"
        for sentence in words.sentences(text.words)
        if (length := words.length(sentence)) > MOST_WORDS
    ]
    found += [f"{text.path}:{text.line}: chain of semicolons" for s in words.sentences(text.words) if s.count(";") > 1]
    for pattern in (BANNED, ONE_OF_MANY):
        found += [f"{text.path}:{text.line}: {match[0]!r} in: {text.words}" for match in pattern.finditer(text.words)]
    if (address := ADDRESS.search(text.words)) and not OWN_ADDRESS.search(text.words):
        found.append(f"{text.path}:{text.line}: the address {address[0]}")
    return found


def texts_of(place: Path) -> list[Text]:
    modules = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    found = [text for module in modules if "migrations" not in module.parts for text in words.of_module(module, ROOT)]
    return [text for text in found if (part := NOT_SAID.get(text.path)) is None or part not in text.words]


@pytest.mark.parametrize("room", ROOMS)
def test_sentences_of_the_room_are_plain_english(room: str) -> None:
    found = texts_of(ROOT / "orchestration" / room)
    assert found, "nothing is collected"
    assert [fault for text in found for fault in faults(text)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_count_of_one_has_no_plural(room: str) -> None:
    found = [text for text in texts_of(ROOT / "orchestration" / room) if BARE_COUNT.search(text.words)]
    wrong = [text for text in found if not any(words in text.words for words in NEVER_ONE)]
    assert [f"{text}: use usage.formatting.counted" for text in wrong] == []


def test_number_that_is_set_has_its_unit_in_its_name() -> None:
    unit = r"_(DAYS|HOURS|SECONDS|MS|PCT|BYTES)$|_PER_(SECOND|DAY)$"
    plain_count = r"(PORT|WORKERS|EVENTS|CONNECTIONS|CUSTOMERS)$"
    fields = Settings.model_fields.values()
    numbers = [each.alias for each in fields if {int, float} & {each.annotation, *get_args(each.annotation)}]
    assert len(numbers) > 15
    assert [name for name in numbers if not re.search(f"{unit}|{plain_count}", str(name))] == []


def test_descriptions_of_the_dbt_project_are_plain_english() -> None:
    files = sorted((ROOT / "dbt_project").rglob("*.yml"))
    # target is what dbt by hand left
    files = [each for each in files if not {"unit_tests", "target"} & set(each.parts)]
    found = [text for file in files for text in words.of_yaml(file, ROOT)]
    assert len(found) > 900
    assert [fault for text in found for fault in faults(text)] == []


def test_words_of_a_module_are_collected(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        '''"""Only programmers read this docstring of ours."""
import typer, dagster as dg

app = typer.Typer(help="Report usage to Stripe.")

@app.command()
def plan(limit: int) -> None:
    """Show what the next run would report."""
    raise ValueError(f"Stripe refused {limit:,} units: " + "repair the key, then run again.")

def other() -> str:
    """Not shown to any person at all."""
    return "select account from raw_events"
''',
        encoding="utf-8",
    )
    assert [str(text) for text in words.of_module(tmp_path / "module.py", tmp_path)] == [
        "module.py:8: Show what the next run would report.",
        "module.py:4: Report usage to Stripe.",
        "module.py:9: Stripe refused {n} units: repair the key, then run again.",
    ]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (" ".join(["word"] * 21) + ".", "21 words"),
        (" ".join(["word"] * 20) + ". " + " ".join(["word"] * 20) + ".", ""),
        ("One row per account, meter and UTC hour with a call: " + " ".join(["word"] * 15), ""),
        ("first; second; third", "semicolons"),
        ("everything is loaded anew", "'anew'"),
        ("this is no table", "'is no '"),
        ("there is no mart of that name, and the file is no longer needed", ""),
        ("1 calls came late", "'1 calls'"),
        ("write to someone@acme.example.com", "the address"),
        ("postgresql://user:password@host.example/database", ""),
    ],
)
def test_fault_of_a_sentence_is_found(said: str, fault: str) -> None:
    found = faults(Text("module.py", 1, said))
    assert (fault in str(found)) if fault else found == []
