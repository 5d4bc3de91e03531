"""Seeds that somebody edited: what dbt would stumble over is a sentence with file, line and column."""

from pathlib import Path

import pytest
import yaml

from orchestration.settings import PROJECT_ROOT
from orchestration.usage import meters
from orchestration.warehouse import seeds

TYPES = {"plan": "varchar", "included_units": "bigint", "base_price": "decimal(18,2)", "since": "date"}
GOOD = "plan,included_units,base_price,since\ngrowth,1000,499.00,2026-11-01\nfree,,0,\n"


def examined(folder: Path, content: str | bytes) -> seeds.Examined:
    path = folder / "seeds" / "plans.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return seeds.examine(folder, {"seeds/plans.csv": TYPES})


def test_seeds_of_the_project_have_no_problem() -> None:
    folder = PROJECT_ROOT / "dbt_project"
    project = yaml.safe_load((folder / "dbt_project.yml").read_text())
    types = {
        f"seeds/{name}.csv": entry["+column_types"]
        for name, entry in project["seeds"]["headroom"].items()
        if not name.startswith("+")
    }
    assert {f"seeds/{path.name}" for path in (folder / "seeds").glob("*.csv")} == set(types)
    assert seeds.examine(folder, types) == seeds.Examined()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_good_seed_has_no_problem(tmp_path: Path, mark: str) -> None:
    assert examined(tmp_path, mark + GOOD) == seeds.Examined()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (GOOD.replace("plan,", " plan,"), "seeds/plans.csv: the first line names ' plan'. Write plan."),
        (GOOD.replace("since", "Since\u00a0"), "seeds/plans.csv: the first line names 'Since\\xa0'. Write since."),
        (GOOD.replace("since", "plan"), "It lacks since, and names ['plan', 'included_units', 'base_price', 'plan']."),
        (GOOD.replace("since", "since,PLAN"), "seeds/plans.csv: the first line names plan 2 times. Name each column"),
        (GOOD.replace(",", ";"), "the first line must name plan, included_units, base_price, since. It lacks plan, "),
        ("", "It lacks plan, included_units, base_price, since, and names []."),
        (GOOD.replace("growth", "growth "), "line 2, plan is 'growth ', with a blank around it. Write 'growth'."),
        (GOOD.replace("499.00", '"1,010.00"'), "line 2, base_price is '1,010.00', which is not a number, such as 1010"),
        (GOOD.replace("1000", "many"), "line 2, included_units is 'many', which is not a whole number."),
        (GOOD.replace("2026-11-01", "1.11.2026"), "line 2, since is '1.11.2026', which is not a date, such as 2026"),
        (
            GOOD.replace("499.00", "1,010.00"),
            "line 2, has 5 cells, and the first line 4 names: put a text with a comma",
        ),
        (GOOD.replace("growth", '"growth'), "seeds/plans.csv, line 3: unexpected end of data. Look at its quotes."),
        (GOOD.replace("growth", "café").encode("latin-1"), "seeds/plans.csv is not UTF-8 text: export it as UTF-8."),
    ],
)
def test_bad_seed_is_a_sentence_with_its_place(tmp_path: Path, content: str | bytes, problem: str) -> None:
    found = examined(tmp_path, content).problems
    assert any(problem in sentence for sentence in found), found


def test_column_of_a_seed_that_means_nothing_is_named_and_harms_nothing(tmp_path: Path) -> None:
    found = examined(tmp_path, "plan,included_units,base_price,since,note\ngrowth,1,1,,x\n")
    assert found == seeds.Examined(unknown=["seeds/plans.csv: note"])


def meters_file(folder: Path, content: str | None) -> Path:
    """The project's meters, one of them written otherwise; None is no file."""
    path = folder / "seeds" / "meters.csv"
    path.parent.mkdir()
    if content is not None:
        path.write_text(content)
    return folder


METERS_OF_PROJECT = (PROJECT_ROOT / "dbt_project" / "seeds" / "meters.csv").read_text()


def test_meters_are_read_with_the_main_one_first(tmp_path: Path) -> None:
    last_row_first = "\ufeff" + "\r\n".join([(rows := METERS_OF_PROJECT.splitlines())[0], *rows[:0:-1]])
    found = seeds.read_meters(meters_file(tmp_path, last_row_first))
    assert [meter.name for meter in found] == ["api-calls", "seats", "storage", "tokens"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (METERS_OF_PROJECT.replace("sum,total_tokens", "sum,"), "seeds/meters.csv: tokens: value is empty."),
        (METERS_OF_PROJECT.replace("tokens,false", "tokens,true"), "seeds/meters.csv: api-calls, tokens are main."),
        (METERS_OF_PROJECT.replace("tokens,false", "tokens,perhaps"), "is_main is 'perhaps', which is not a boolean"),
        (METERS_OF_PROJECT.replace(",decimals", ""), "It lacks decimals"),
        (METERS_OF_PROJECT.replace("tokens,false", " tokens,false"), "with a blank around it. Write 'tokens'."),
        ("", "the first line must name meter, is_main"),
        (None, "seeds/meters.csv cannot be read (No such file or directory)."),
    ],
)
def test_mistake_in_the_meters_stops_ingest_and_build(tmp_path: Path, content: str | None, problem: str) -> None:
    folder = meters_file(tmp_path, content)
    with pytest.raises(seeds.MetersError, match=r"meters.csv has errors; nothing was read or counted:\n- ") as failed:
        seeds.read_meters(folder)
    assert problem in failed.value.problems[0]
    assert f"- {failed.value.problems[0]}\nRepair, and run again." in str(failed.value)
    assert seeds.examine(folder, {"seeds/meters.csv": meters.COLUMNS}).problems == failed.value.problems
