"""The configuration as the program uses it, for `headroom doctor`: each variable, its value, where it was set.

Secrets are masked: of a database's address its host and name are shown, of anything else nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from orchestration import settings
from orchestration.settings import Settings
from orchestration.usage.findings import Finding
from orchestration.usage.formatting import counted

MASK = "********"
DEFAULT = "default"


@dataclass(frozen=True)
class Variable:
    """One of them, fit to be shown."""

    name: str
    value: str
    """Empty where nothing is set and there is no default."""
    source: str


def variables(config: Settings) -> list[Variable]:
    """All of them, in the order of `.env.example`."""
    derived = {
        "landing_folder": config.landing,
        "accounts": config.accounts_csv,
        "subjects": config.subjects_csv,
        "customers": config.customers_csv,
        "destination_tables": config.destination_tables_file,
    }
    found = []
    for name, field in Settings.model_fields.items():
        variable = str(field.alias)
        value = getattr(config, name)
        shown = _shown(derived.get(name) if value is None else value)
        found.append(Variable(variable, shown, config.sources.get(variable, DEFAULT)))
    return found


def examine(config: Settings) -> Iterator[Finding]:
    """What is set, what has no effect, and files that are named and missing."""
    schedules = "schedules are on" if config.is_production else "schedules are off outside production"
    yield Finding(f"configuration: HEADROOM_ENV={config.env}, {schedules}; HEADROOM_DATA={config.data}")
    everything = variables(config)
    for variable in everything:
        if variable.source != DEFAULT:
            yield Finding(f"configuration: {variable.name}={variable.value} ({variable.source})")
    rest = counted(sum(variable.source == DEFAULT for variable in everything), "variable")
    yield Finding(f"configuration: {rest} at the default, see `headroom doctor --configuration`")
    for unread in settings.unread():
        yield Finding("configuration", str(unread), is_needed=False)
    named = {
        "ACCOUNTS": config.accounts,
        "SUBJECTS": config.subjects,
        "CUSTOMERS": config.customers,
        "TEMPLATES": config.templates,
    }
    for name, path in named.items():
        if path and not path.exists():
            yield Finding(f"HEADROOM_{name}", f"{path} does not exist: create it, or unset the variable")
    if config.fixed_now:
        words = (
            f"HEADROOM_NOW fixes the time at {config.now():%Y-%m-%d %H:%M} UTC: unset it, except in tests and replays"
        )
        yield Finding("clock", words, is_needed=False)


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        parts = urlsplit(value.get_secret_value())  # validated: nothing of the password is in its host or path
        return f"{_without_user(parts)}{parts.path}" if parts.scheme == "postgresql" else MASK
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    text = str(value)
    if "://" in text and "@" in text:
        parts = urlsplit(text)
        return f"{_without_user(parts)}{parts.path}"
    return text


def _without_user(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{MASK + '@' if '@' in parts.netloc else ''}{host}"
