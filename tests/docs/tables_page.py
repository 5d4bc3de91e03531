"""docs/reference/tables.md: marts and seeds column by column, other models by their grain, from dbt's YAML files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from orchestration.settings import PROJECT_ROOT
from tests.docs.markdown import cell, linked, made_from, table

DBT = PROJECT_ROOT / "dbt_project"
Model = dict[str, Any]


def text() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    marts = {mart["name"]: mart for mart in models("marts")}
    groups = _groups(marts)
    yield "# Tables"
    yield ""
    yield from made_from("the YAML files of dbt_project/")
    yield "These are the tables of the published copy. `headroom sql` and any DuckDB client read them."
    yield "[The marts](#the-marts) are for queries, and change with a version only. All timestamps are UTC."
    yield ""
    yield "Each mart has a contract: dbt builds it with these columns and types, or not at all. Lineage is in dbt's own"
    yield "docs, a part of the site that `make docs` builds."
    yield ""
    yield "## The marts"
    yield ""
    rows = [(f"[`{name}`](#{name})", summary(marts[name])) for names in groups.values() for name in names]
    yield from table(("mart", "what it has"), rows)
    for group, names in groups.items():
        yield f"## {group}"
        yield ""
        for name in names:
            yield from _described(marts[name])
    yield "## The rules that you edit"
    yield ""
    yield "Each is a CSV file in `dbt_project/seeds/`. The next run decides by what is in it. `headroom rules plan`"
    yield "shows what a change does before it happens."
    yield ""
    for seed in _entries(sorted((DBT / "seeds").glob("*.yml")), "seeds"):
        yield from _described(seed)
    for title, folder, words in (
        ("Between", "intermediate", "One rule each. They are in the published copy, and may change with any version."),
        ("Staging", "staging", "Views of the lake with columns renamed and cast. The published copy has none of them."),
    ):
        yield f"## {title}"
        yield ""
        yield words
        yield ""
        yield from table(("model", "what it has"), [(f"`{m['name']}`", summary(m)) for m in models(folder)])


def models(folder: str) -> list[Model]:
    return list(_entries(sorted((DBT / "models" / folder).glob("[!_]*.yml")), "models"))


def _entries(files: list[Path], key: str) -> Iterator[Model]:
    for file in files:
        yield from yaml.safe_load(file.read_text(encoding="utf-8"))[key]


def _groups(marts: dict[str, Model]) -> dict[str, list[str]]:
    """The marts by the description of their group, as dbt_project.yml has them, in the order of the data's flow."""
    config = yaml.safe_load((DBT / "dbt_project.yml").read_text(encoding="utf-8"))["models"]["headroom"]["marts"]
    known = yaml.safe_load((DBT / "models" / "groups.yml").read_text(encoding="utf-8"))["groups"]
    found: dict[str, list[str]] = {}
    for group in known:
        names = [name for name in marts if config.get(name, config)["+group"] == group["name"]]
        if names:
            found[group["description"].rstrip(".")] = names
    return found


def _described(model: Model) -> Iterator[str]:
    yield f"### {model['name']}"
    yield ""
    for paragraph in model["description"].strip().split("\n\n"):
        yield linked(cell(paragraph)).replace("\\|", "|")
        yield ""
    has_types = any("data_type" in column for column in model["columns"])
    rows = []
    for column in model["columns"]:
        words = linked(column.get("description", ""))
        rows.append((f"`{column['name']}`", *([_type(column)] if has_types else []), words))
    yield from table(("column", *(["type"] if has_types else []), "what it is"), rows)


def _type(column: Model) -> str:
    is_never_null = any(each.get("type") == "not_null" for each in column.get("constraints", []))
    return column["data_type"] + (", never null" if is_never_null else "")


def summary(model: Model) -> str:
    """Of its description; with the next one, where it says no more than "One row."."""
    first, *others = re.split(r"(?<=\.) ", " ".join(model["description"].split()))
    return linked(cell(f"{first} {others[0]}" if len(first) < len("One row per account.") else first))
