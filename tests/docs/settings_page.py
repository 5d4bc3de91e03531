"""docs/reference/settings.md: every variable, from `Settings` alone."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from orchestration.settings import Settings
from tests.docs.markdown import made_from, table

PARTS = (
    ("Slack", r"(HEADROOM_)?SLACK_\w+|HEADROOM_CRITICAL_AT_ONCE"),
    ("Stripe", r"(HEADROOM_)?STRIPE_\w+|HEADROOM_BILL_SAMPLED"),
    ("Pages", r"HEADROOM_PAGES_\w+"),
    ("Collector", r"HEADROOM_COLLECT_\w+"),
    ("Files, lake and accounts", r"HEADROOM_(LANDING\w*|LAKE_\w+|ACCOUNTS|SUBJECTS|CUSTOMERS)"),
    ("Databases", r"HEADROOM_(LEDGER|DAGSTER|DESTINATION|CLICKHOUSE)_\w+"),
    ("The installation", r".+"),
)
"""A variable belongs to the first part whose pattern is its name; the page begins with the last one."""
WORDS = {str: "text", int: "integer", float: "number", bool: "`true` or `false`", Path: "path", SecretStr: "**secret**"}


def text() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield from made_from("orchestration/settings.py")
    yield "Each has a default. Set a variable in the environment, or in `.env` in the project's folder, which"
    yield "`.env.example` explains. The environment has priority. An empty value is an unset one."
    yield ""
    yield "`headroom doctor --configuration` lists the values in force, and where each was set. It shows no secret."
    yield "Headroom refuses a misspelled name at start, and names the right one. Relative paths begin at the project's"
    yield "folder."
    yield ""
    fields: dict[str, list[tuple[str, FieldInfo]]] = {title: [] for title, _ in reversed(PARTS)}
    for field in Settings.model_fields.values():
        name = str(field.alias)
        fields[next(title for title, pattern in PARTS if re.fullmatch(pattern, name))].append((name, field))
    for title, members in fields.items():
        yield f"## {title}"
        yield ""
        yield from table(("variable", "what it is", "value", "default"), [_row(name, field) for name, field in members])
    yield "## Of other programs"
    yield ""
    yield "These begin with the same name, and these settings do not have them:"
    yield ""
    others = [
        ("`HEADROOM_ROUTE_<NAME>_…`", "the secrets of a route: [Routes](../messages/routes.md#secrets)"),
        ("`HEADROOM_GATE_…`", "a gate, at the API that has one: [The gate](../gate/index.md#settings)"),
        ("`HEADROOM_URL`, `HEADROOM_KEY`", "where the clients to copy send events, and by which key"),
        ("`HEADROOM_COLLECT_BIND`, `HEADROOM_PAGES_BIND`", "ports of `deploy/compose.yaml`"),
        (
            "`HEADROOM_WAREHOUSE`, `HEADROOM_CLICKHOUSE_HOST` and its like",
            "dbt by hand, in `dbt_project/profiles.yml`: [ClickHouse](../operate/clickhouse.md)",
        ),
    ]
    yield from table(("variable", "read by"), others)


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    words, _, named = str(field.description).partition("default: ")
    return f"`{name}`", words.rstrip("; "), kind(field), named or default(field)


def kind(field: FieldInfo) -> str:
    """What may be set, in words: its type and its bounds."""
    [annotation] = [each for each in _alternatives(field.annotation) if each is not NoneType]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{each}`" for each in get_args(annotation))
    word = WORDS.get(annotation, "a moment, ISO 8601")
    bounds = {type(each): each for each in field.metadata if isinstance(each, Ge | Gt | Le)}
    least, above, most = bounds.get(Ge), bounds.get(Gt), bounds.get(Le)
    if isinstance(least, Ge) and isinstance(most, Le):
        return f"{word}, {least.ge} to {most.le}"
    if isinstance(least, Ge):
        return f"{word}, at least {least.ge}"
    return f"{word}, above {above.gt}" if isinstance(above, Gt) else word


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    is_choice = get_origin(annotation) in (None, Literal)
    return (annotation,) if is_choice else get_args(annotation)


def default(field: FieldInfo) -> str:
    match field.default:
        case None | "":
            return "none"
        case bool() as value:
            return f"`{str(value).lower()}`"
        case value:
            return f"`{value}`"
