"""Failures of the machine in words: what happened, where, what to do. One place for the shell, alerts and doctor.

A failure is recognised by the class and text of its causes, because Dagster keeps nothing else of what failed in a
step. What is not here is a fault of the program: for that the traceback is the message.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestration.settings import Settings

AGAIN = "then run again: nothing is lost, and nothing is sent twice"


@dataclass(frozen=True)
class Cause:
    """One of the errors that led to a failure."""

    kind: str
    """Name of its class, without the module."""
    text: str


def causes_of(error: BaseException) -> Iterator[Cause]:
    """The error and those that it came from, the last one first."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield Cause(type(found).__name__, str(found))
        found = found.__cause__ or found.__context__


def sentence(causes: Sequence[Cause], config: Settings) -> str | None:
    """What happened, where and what to do; None where it is not a failure of the machine. Holds no secret."""
    for pattern, say in _RULES:
        for cause in causes:
            if match := pattern.search(f"{cause.kind}: {cause.text}"):
                return say(match, config)
    return None


def _path(match: re.Match[str], config: Settings) -> str:
    """The path that the message names, else the data folder."""
    named = _PATH.search(match.string, match.start()) or _PATH.search(match.string)
    return named[1] if named else str(config.data)


def _disk_full(match: re.Match[str], config: Settings) -> str:
    return (
        f"the disk is full: {_path(match, config)} could not be written. Free some space there (`headroom doctor` says"
        f" how much a run needs), {AGAIN}"
    )


def _denied(match: re.Match[str], config: Settings) -> str:
    path = _path(match, config)
    return (
        f"this user may not write to {path}, or not read it. Give this user the right, because another user such as"
        " root may own it. Or set HEADROOM_DATA to a folder of this user"
    )


def _read_only(match: re.Match[str], config: Settings) -> str:
    return (
        f"{_path(match, config)} is on a disk that is mounted read-only. Mount it for writing, or set HEADROOM_DATA to"
        " a folder that can be written"
    )


def _file_not_folder(match: re.Match[str], config: Settings) -> str:
    return (
        f"{_path(match, config)} is a file, or is inside one, where a folder is needed. Move the file away, or set"
        " HEADROOM_DATA to a folder"
    )


def _disk_fails(match: re.Match[str], config: Settings) -> str:
    return (
        f"the disk of {_path(match, config)} is full, or fails (input/output error). Free some space there, {AGAIN}. If"
        " there is space, check the disk"
    )


def _too_many_files(_: re.Match[str], config: Settings) -> str:
    return f"too many files are open at once. Raise the limit in this shell or service (`ulimit -n 4096`), {AGAIN}"


def _no_memory(_: re.Match[str], config: Settings) -> str:
    return f"the memory is not enough. Give this machine or container more of it, {AGAIN}"


def _held_file(match: re.Match[str], config: Settings) -> str:
    path = match["path"]
    who = "another program"
    if holder := re.search(
        r"held in (?P<program>\S+)?.{0,3}\(PID (?P<pid>\d+)\)(?: by user (?P<user>\S+))?", match.string
    ):
        user = f" of user {holder['user'].rstrip('.')}" if holder["user"] else ""
        who = f"{holder['program'] or 'another program'} (process {holder['pid']}{user})"
    return (
        f"{who} has {path} open, and no run can write it meanwhile. Close it there, {AGAIN}. To look at the figures at"
        f" any time: `headroom sql`, or `duckdb -readonly {config.published}`"
    )


def _other_duckdb(match: re.Match[str], config: Settings) -> str:
    return (
        f"{_path(match, config)} is not a file that this version of DuckDB reads: it is damaged, or a later version"
        f" wrote it. Delete it, and run `headroom run --only models`, which makes {config.warehouse.name} and"
        f" {config.published.name} again from the lake"
    )


def _ledger_not_opened(_: re.Match[str], config: Settings) -> str:
    return (
        f"a database file in {config.data} cannot be opened. Check that the folder exists and that this user may write"
        " to it, or set HEADROOM_DATA"
    )


def _ledger_read_only(_: re.Match[str], config: Settings) -> str:
    return (
        f"this user may only read the databases in {config.data}, and this command writes to one. Run it as the user"
        " that they belong to"
    )


def _ledger_locked(_: re.Match[str], config: Settings) -> str:
    return (
        f"another process has kept a database in {config.data} locked for a minute. Wait for its end, or stop it,"
        f" {AGAIN}"
    )


def _ledger_damaged(_: re.Match[str], config: Settings) -> str:
    return (
        f"a database in {config.data} is damaged. Stop the jobs; `headroom doctor` says whether it is the ledger, which"
        " has to come from a backup"
    )


def _postgres_away(match: re.Match[str], config: Settings) -> str:
    where, variable = _server(match.string, config)
    return f"Postgres{where} does not answer: {_said(match)}. Start it, or correct {variable}, {AGAIN}"


def _postgres_refuses(match: re.Match[str], config: Settings) -> str:
    where, variable = _server(match.string, config)
    return f"Postgres{where} refuses the connection: {_said(match)}. Correct user, password or database in {variable}"


def _postgres_crowded(match: re.Match[str], config: Settings) -> str:
    where, _ = _server(match.string, config)
    return f"Postgres{where} has no free connection: {_said(match)}. Close others, or raise max_connections, {AGAIN}"


def _postgres_full(match: re.Match[str], config: Settings) -> str:
    where, _ = _server(match.string, config)
    return f"the disk of Postgres{where} is full. Free some space on that server, {AGAIN}"


def _postgres_reads(match: re.Match[str], config: Settings) -> str:
    where, variable = _server(match.string, config)
    return f"Postgres{where} only reads: it is a standby, or set read-only. Name the primary in {variable}, {AGAIN}"


def _postgres_locked(match: re.Match[str], config: Settings) -> str:
    where, _ = _server(match.string, config)
    return f"another process has kept a lock in Postgres{where} for a minute. Wait for its end, or stop it, {AGAIN}"


def _dagster_outdated(_: re.Match[str], config: Settings) -> str:
    place = f"in {config.dagster_home}" if config.postgres_dagster is None else "on Postgres"
    return (
        f"Dagster's storage {place} is of another version of Dagster. Stop the jobs, run `DAGSTER_HOME="
        f"{config.dagster_home} .venv/bin/dagster instance migrate`, and start them again"
    )


def _dagster_later(match: re.Match[str], config: Settings) -> str:
    return (
        "a later version of Dagster or Headroom changed this database: this version does not know its migration"
        f" {match['revision']}. Install that version again"
    )


def _dagster_yaml(match: re.Match[str], config: Settings) -> str:
    entry = re.search(r'unexpected config entry "([^"]+)"', match.string)
    what = f" (unexpected entry {entry[1]!r})" if entry else ""
    return (
        f"{config.dagster_home / 'dagster.yaml'} is not a configuration that Dagster takes{what}. Correct it, or delete"
        " it: the next command writes a new one"
    )


def _module(match: re.Match[str], config: Settings) -> str:
    name = match["name"].partition(".")[0]
    if name in sys.stdlib_module_names:
        return f"this user may not read the Python in {sys.prefix} (module {name}). Make the environment as this user"
    return f"the Python package {name} is not installed: the environment is older than the code. Run `make .venv/ready`"


def _said(match: re.Match[str]) -> str:
    """The reason, on one line."""
    words = " ".join(match["reason"].split()).rstrip(".")
    return words.partition(" Is the server running")[0].partition(" (Background on")[0].removeprefix("FATAL: ").strip()


def _server(text: str, config: Settings) -> tuple[str, str]:
    """Where it is, and the variable that says so; of several the ones that may be meant."""
    named = {
        "HEADROOM_LEDGER_URL": config.postgres_ledger,
        "HEADROOM_DAGSTER_POSTGRES_URL": config.postgres_dagster,
        "HEADROOM_DESTINATION_URL": config.destination,
    }
    places = {name: urlsplit(secret.get_secret_value()) for name, secret in named.items() if secret}
    host, port = re.search(r'at "([^"]+)"', text), re.search(r"port (\d+)", text)
    host = host or re.search(r'host name "([^"]+)"', text)
    meant = [
        name
        for name, parts in places.items()
        if (not host or parts.hostname in (host[1], None)) and (not port or (parts.port or 5432) == int(port[1]))
    ] or list(places)
    where = f" at {host[1]}{':' + port[1] if port else ''}" if host else ""
    if not where and len(meant) == 1 and places[meant[0]].hostname:
        where = f" at {places[meant[0]].hostname}"
    return where, " or ".join(meant) or "its address"


_PATH = re.compile(r"""(?:: |\bfile |\bpath |\bdirectory )["'](/[^"']+)["']""")
_HOLDER = re.compile(r"held in (?P<program>\S+)?.{0,3}\(PID (?P<pid>\d+)\)(?: by user (?P<user>\S+))?")
_DAGSTER_TABLES = (
    r"(runs|run_tags|snapshots|event_logs|asset_keys|kvs|jobs|job_ticks|instigators|bulk_actions|backfill_tags"
    r"|secondary_indexes|daemon_heartbeats|instance_info|asset_daemon_asset_evaluations|asset_event_tags"
    r"|concurrency_limits|concurrency_slots|pending_steps|dynamic_partitions|asset_check_executions)"
)
_REFUSALS = (
    r"(?P<reason>password authentication failed[^\n]*|no pg_hba\.conf entry[^\n]*|role \"[^\"]*\" does not exist"
    r"|database \"[^\"]*\" does not exist|permission denied for (database|schema|table)[^\n]*)"
)
_LOSSES = (
    r"(?P<reason>could not translate host name [^\n]*|server closed the connection unexpectedly"
    r"|terminating connection due to administrator command|SSL connection has been closed unexpectedly"
    r"|connection (timed out|timeout expired)|could not receive data from server[^\n]*)"
)
_OUTDATED = (
    r"(OperationalError|ProgrammingError): (?=.*(no such (table|column)|does not exist|has no column named))"
    rf".*\b{_DAGSTER_TABLES}\b"
)
_DISK_FULL = r"database or disk is full|No space left on device|\[Errno (28|122)\]|[Dd]isk quota exceeded"
_DENIED = r"PermissionError: |\[Errno 13\]|(IOException|IO Error): .*Permission denied"
_OTHER_DUCKDB = r"not a valid DuckDB database file|database file with version number|newer version of DuckDB"
_RULES: Sequence[tuple[re.Pattern[str], Callable[[re.Match[str], Settings], str]]] = [
    (re.compile(pattern, re.DOTALL), say)
    for pattern, say in (
        # of Postgres, before those of this machine: its words may be the same
        (r"could not (extend|write to) file .*No space left|DiskFull", _postgres_full),
        (_REFUSALS, _postgres_refuses),
        (r"(?P<reason>too many (clients|connections)[^\n]*|remaining connection slots[^\n]*)", _postgres_crowded),
        (r"(?P<reason>the database system is [^\n]*)", _postgres_away),
        (r"connection to server [^\n]*? failed: (?P<reason>[^\n]+)", _postgres_away),
        (_LOSSES, _postgres_away),
        (r"ReadOnlySqlTransaction|cannot execute \w+ in a read-only transaction", _postgres_reads),
        (r"canceling statement due to lock timeout", _postgres_locked),
        (_DISK_FULL, _disk_full),
        (r"Read-only file system|\[Errno 30\]", _read_only),
        (r"Could not set lock on file \"(?P<path>[^\"]+)\"", _held_file),
        (_DENIED, _denied),
        (r"NotADirectoryError: |FileExistsError: |IsADirectoryError: ", _file_not_folder),
        (r"\[Errno 5\]|disk I/O error", _disk_fails),
        (r"\[Errno 24\]|unable to open database file.*Too many open files", _too_many_files),
        (r"^MemoryError|OutOfMemoryException|Out of Memory Error|\[Errno 12\]", _no_memory),
        (_OTHER_DUCKDB, _other_duckdb),
        (r"DagsterInvalidConfigError: ", _dagster_yaml),
        (r"Can't locate revision identified by '(?P<revision>\w+)'", _dagster_later),
        (_OUTDATED, _dagster_outdated),
        (r"unable to open database file", _ledger_not_opened),
        (r"attempt to write a readonly database", _ledger_read_only),
        (r"database is locked|database table is locked", _ledger_locked),
        (r"database disk image is malformed|file is not a database", _ledger_damaged),
        (r"ModuleNotFoundError: No module named '(?P<name>[\w.]+)'", _module),
    )
]
