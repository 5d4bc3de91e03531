"""From `limits.json` to a snapshot, by the version that the gate knows.

A file that is damaged, or that a newer Headroom wrote in another version, is refused as a whole.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import inf
from operator import itemgetter
from typing import Any

from headroom_gate.json_rows import Members
from headroom_gate.rates import Rate, per_second
from headroom_gate.snapshot import Snapshot, Spans, Terms
from headroom_gate.templates import Templates

VERSION = 1
_COUNT = (int, type(None))


class SnapshotError(ValueError):
    """The snapshot cannot be read. The message says why."""


def parse(raw: bytes | str, meter: str | None = None) -> Snapshot:
    """The snapshot of a meter; the main one if none is named. Its `accounts` come after what explains them.

    :raises SnapshotError: damaged, of another version, or without this meter.
    """
    try:
        text, data, name = raw if isinstance(raw, str) else raw.decode(), dict[str, Any](), ""
        for member, value in Members(text, frozenset({"accounts", "subjects"})):
            if member == "accounts":
                _check_version(data)
                name = _meter(data["meters"], meter)
                data[member] = _accounts(data["columns"], value, name)
            else:
                data[member] = _subjects(value) if member == "subjects" else value
        _check_version(data)
        about = data["meters"][name]
        weights = _weights(about["weights"])
        published_at = int(_epoch(data["published_at"]))
        return Snapshot(
            published_at=published_at,
            meter=name,
            unit=str(about["unit"]),
            events=tuple(about["events"]),
            usage_url=data.get("usage_url"),
            templates=Templates(weights),
            # a producer whose clock is ahead may have sent events of the future
            _through=min(int(_epoch(data["data_through"])), published_at) if data["data_through"] else None,
            _weights=weights,
            _rates={
                plan: (_rate(row, "rate_limit_per_second"), _rate(row, "throttle_per_second"))
                for plan, row in data["plans"].items()
            },
            _accounts=data["accounts"],
            _subjects=data["subjects"],
        )
    except SnapshotError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        raise SnapshotError(f"limits.json cannot be read: {error!r}") from error


def _check_version(data: Mapping[str, Any]) -> None:
    """First of all: of another version nothing else is known."""
    if data["version"] != VERSION:
        raise SnapshotError(f"limits.json has version {data['version']!r}. This gate reads version {VERSION} alone")


def _meter(meters: Mapping[str, Mapping[str, Any]], wanted: str | None) -> str:
    name = wanted or next((each for each, about in meters.items() if about["is_main"]), "main")
    if name not in meters:
        raise SnapshotError(f"limits.json has no meter {name} that a gate can count")
    return name


def _accounts(columns: list[str], rows: Iterable[list[Any]], meter: str) -> dict[str, tuple[int, Terms]]:
    of_meter, of_account, of_used = (columns.index(name) for name in ("meter", "account_id", "used"))
    terms_of = itemgetter(*map(columns.index, ("plan", "limit_kind", "quota", "period_start", "resets_at")))
    known: dict[tuple[Any, ...], Terms] = {}
    found: dict[str, tuple[int, Terms]] = {}
    for row in rows:
        if row[of_meter] != meter:
            continue
        account_id, used, raw = row[of_account], row[of_used], terms_of(row)
        if (terms := known.get(raw)) is None and (terms := _terms(*raw)) is not None:
            known[raw] = terms
        if terms is None or type(used) is not int:
            raise SnapshotError(f"limits.json has a number that is not whole in the row of {account_id!r}")
        found[account_id] = used, terms
    return found


def _terms(plan: str | None, kind: str | None, quota: Any, period_start: Any, resets_at: Any) -> Terms | None:
    """None where a number is not whole."""
    if type(period_start) is not int or type(quota) not in _COUNT or type(resets_at) not in _COUNT:
        return None
    return plan, kind or "soft", quota, period_start, resets_at


def _subjects(rows: Iterable[list[Any]]) -> dict[str, str | Spans]:
    found: dict[str, str | Spans] = {}
    for subject, account_id, start, until in rows:
        if not start and until is None and subject not in found:
            found[subject] = account_id
            continue
        before = found.get(subject, ())
        spans = ((before, -inf, inf),) if isinstance(before, str) else before
        found[subject] = (*spans, (account_id, -inf if start is None else start, inf if until is None else until))
    return found


def _weights(rows: Iterable[list[str]]) -> dict[str, tuple[list[float], list[int]]]:
    found: dict[str, tuple[list[float], list[int]]] = {}
    for endpoint, day, weight in sorted(rows):
        since, weights = found.setdefault(endpoint, ([], []))
        since.append(_epoch(day))
        weights.append(int(weight))
    return found


def _rate(row: Mapping[str, Any], name: str) -> Rate | None:
    return None if row.get(name) is None else per_second(str(row[name]))


def _epoch(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
