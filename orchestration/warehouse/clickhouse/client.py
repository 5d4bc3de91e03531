"""A ClickHouse server as the warehouse: how it is reached, what it answers, and what is wrong where it does not.

Spoken to over HTTP; the nodes of its cluster, whose addresses it knows, over the native protocol. How the lake gets
there is in `clickhouse_load.py`, how its marts are published in `clickhouse_publish.py`.
"""

import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from pydantic import SecretStr

from orchestration.usage.findings import Finding
from orchestration.warehouse.engine import EngineError

CONNECT_SECONDS = 10
ANSWER_SECONDS = 3600
"""No answer is waited for longer. The longest is that of a first load, in pieces of at most ten million calls."""
CHUNK_BYTES = 2**20
NATIVE_TLS_PORT = 9440
SAID_ON_THE_WAY = re.compile(rb"Code: (\d+)\..*?\(version", re.DOTALL)
NEEDED = {
    "join_use_nulls": "1",
    "aggregate_functions_null_for_empty": "1",
    "cast_keep_nullable": "1",
    "prefer_column_name_to_alias": "0",
    "skip_unavailable_shards": "0",
}
"""Settings of the user's profile: a view is evaluated under those of whoever asks, not those of a session."""
NODE_AWAY = "start that node, or take it out of the cluster in the server's configuration"
ADVICE = {
    60: "`headroom run --only models` makes it",
    107: "HEADROOM_CLICKHOUSE_LAKE has to say where the server finds the lake: mount or copy it there",
    210: NODE_AWAY,
    209: NODE_AWAY,
    241: "give the server more memory, or the user's profile a higher max_memory_usage",
    279: NODE_AWAY,
    291: "the lake must lie under the server's user_files_path: set that, or HEADROOM_CLICKHOUSE_LAKE",
    497: "grant it to the user of HEADROOM_CLICKHOUSE_URL, at the server",
    499: "HEADROOM_CLICKHOUSE_LAKE has to name the lake in its bucket, and the server needs credentials for that",
    516: "correct user and password in HEADROOM_CLICKHOUSE_URL",
}
"""What to do, by the server's number for what happened."""


class ClickHouseError(EngineError):
    """The server is not there, or refuses. The message says what happened, where, and what to do."""


@dataclass(frozen=True)
class Address:
    """What HEADROOM_CLICKHOUSE_URL says."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    cluster: str
    """Empty where there are no shards."""
    is_secure: bool

    @classmethod
    def of(cls, url: SecretStr) -> "Address":
        parts = urlsplit(url.get_secret_value())
        is_secure = parts.scheme == "https"
        return cls(
            host=parts.hostname or "",
            port=parts.port or (8443 if is_secure else 8123),
            user=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            database=parts.path[1:],
            cluster=parse_qs(parts.query).get("cluster", [""])[0],
            is_secure=is_secure,
        )


def environment(url: SecretStr) -> dict[str, str]:
    """What dbt's profile looks up."""
    address = Address.of(url)
    return {
        "HEADROOM_WAREHOUSE": "clickhouse",
        "HEADROOM_CLICKHOUSE_HOST": address.host,
        "HEADROOM_CLICKHOUSE_PORT": str(address.port),
        "HEADROOM_CLICKHOUSE_SECURE": str(address.is_secure),
        "HEADROOM_CLICKHOUSE_USER": address.user,
        "HEADROOM_CLICKHOUSE_PASSWORD": address.password,
        "HEADROOM_CLICKHOUSE_DATABASE": address.database,
        "HEADROOM_CLICKHOUSE_CLUSTER": address.cluster,
    }


class ClickHouse:
    """The server that dbt builds on, and through it its cluster."""

    def __init__(self, url: SecretStr) -> None:
        self.address = Address.of(url)

    @property
    def place(self) -> str:
        return f"ClickHouse at {self.address.host}:{self.address.port}"

    def ask(self, sql: str, **settings: object) -> list[dict[str, Any]]:
        """The rows that it answers; settings are of this statement, `database` and `query_id` among them.

        :raises ClickHouseError: it is away, or refuses; a statement that changes something may have been carried out.
        """
        wanted = {
            "default_format": "JSONEachRow",
            "output_format_json_quote_64bit_integers": 0,
            "wait_end_of_query": 1,  # else what goes wrong on the way comes after a status that says all is well
            **settings,
        }
        with self._answer(sql, wanted) as answer:
            return [json.loads(line) for line in self._read(answer).splitlines()]

    def download(self, sql: str, target: Path) -> None:
        """Write its rows as Parquet, piece by piece.

        :raises ClickHouseError: as above; what is in the file then is of no use.
        """
        wanted = {"default_format": "Parquet", "output_format_parquet_date_as_uint16": 0}
        with self._answer(sql, wanted) as answer, target.open("wb") as file:
            last = b""
            while chunk := self._piece(answer):
                file.write(chunk)
                last = (last + chunk)[-2000:]
        if not last.endswith(b"PAR1"):  # what went wrong on the way is said where the end of the file would be
            said = SAID_ON_THE_WAY.search(last)
            code, words = (int(said[1]), said[0].decode(errors="replace")) if said else (210, "its answer broke off")
            raise self._refusal(code, words)

    def everywhere(self, sql: str) -> None:
        """Have every node of the cluster carry it out, one after the other; tables are named with their database.

        Not by `on cluster`, which needs a Keeper: a cluster without replicas has none.

        :raises ClickHouseError: one is away, or refuses.
        """
        if not self.address.cluster:
            self.ask(sql, database="system")
            return
        from clickhouse_driver import Client, errors

        for host, port in self.nodes():
            try:
                with Client(
                    host=host,
                    port=port,
                    user=self.address.user,
                    password=self.address.password,
                    secure=port == NATIVE_TLS_PORT,  # nodes may speak plainly among themselves, behind HTTPS
                    connect_timeout=CONNECT_SECONDS,
                    send_receive_timeout=ANSWER_SECONDS,
                ) as client:
                    client.execute(sql)
            except (errors.Error, OSError, EOFError) as error:
                code = getattr(error, "code", None) or 210
                raise self._refusal(code, f"node {host}:{port}: {getattr(error, 'message', error)}") from None

    def nodes(self) -> list[tuple[str, int]]:
        """Host and native port of each, as the server knows them.

        :raises ClickHouseError: it knows no such cluster.
        """
        rows = self.ask("select cluster, host_name, port from system.clusters", database="system")
        found = [(row["host_name"], row["port"]) for row in rows if row["cluster"] == self.address.cluster]
        if not found:
            known = ", ".join(sorted({row["cluster"] for row in rows})) or "none"
            raise ClickHouseError(
                f"{self.place} knows no cluster {self.address.cluster} (it knows {known}): correct ?cluster= in"
                " HEADROOM_CLICKHOUSE_URL, or configure remote_servers there"
            )
        return found

    def inspect(self, tables: list[str]) -> tuple[dict[str, int], dict[str, Any]]:
        """Rows of the named tables, and the row of data_quality where it is one of them."""
        rows = {table: self.ask(f"select count() as rows from {table}")[0]["rows"] for table in tables}
        return rows, self.ask("select * from data_quality")[0] if "data_quality" in rows else {}

    def require_settings(self) -> None:
        """:raises ClickHouseError: the profile of the user lacks some that the models need."""
        names = ", ".join(f"'{name}'" for name in NEEDED)
        found = self.ask(f"select name, value from system.settings where name in ({names})", database="system")
        if wrong := sorted(row["name"] for row in found if row["value"] != NEEDED[row["name"]]):
            needed = ", ".join(f"{name} = {NEEDED[name]}" for name in wrong)
            raise ClickHouseError(
                f"{self.place}: the profile of user {self.address.user} lacks {', '.join(wrong)}; figures would be"
                f" wrong without: alter user {self.address.user} settings {needed}"
            )

    def examine(self) -> Iterator[Finding]:
        """What is well, one finding after the other.

        :raises ClickHouseError: something is not: it is away, one of its nodes is, or the profile lacks settings.
        """
        [row] = self.ask("select version() as version", database="system")
        yield Finding(f"{self.place} answers, version {row['version']}")
        self.require_settings()
        if self.address.cluster:
            self.everywhere("select 1")
            yield Finding(f"ClickHouse: all {len(self.nodes())} nodes of cluster {self.address.cluster} answer")

    @contextmanager
    def _answer(self, sql: str, settings: Mapping[str, object]) -> Iterator[http.client.HTTPResponse]:
        address = self.address
        query = urlencode({"database": address.database, **settings})
        headers = {"X-ClickHouse-User": address.user, "X-ClickHouse-Key": address.password}
        # Straight from the library: it tries nothing twice, and only the loader knows what may be done twice.
        connection = (
            http.client.HTTPSConnection(
                address.host, address.port, timeout=CONNECT_SECONDS, context=ssl.create_default_context()
            )
            if address.is_secure
            else http.client.HTTPConnection(address.host, address.port, timeout=CONNECT_SECONDS)
        )
        with closing(connection):
            try:
                connection.connect()
                connection.sock.settimeout(ANSWER_SECONDS)
                connection.request("POST", f"/?{query}", body=sql.encode(), headers=headers)
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise self._away(error) from None
            if answer.status != http.client.OK:
                code = int(answer.headers.get("X-ClickHouse-Exception-Code") or 0)
                raise self._refusal(code, self._read(answer).decode(errors="replace"))
            yield answer

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from None

    def _piece(self, answer: http.client.HTTPResponse) -> bytes:
        """The next piece; of an answer that breaks off, what had come."""
        try:
            return answer.read(CHUNK_BYTES)
        except http.client.IncompleteRead as error:
            return error.partial
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from None

    def _away(self, error: Exception) -> ClickHouseError:
        return ClickHouseError(
            f"{self.place} does not answer ({error or type(error).__name__}): start it, or correct"
            " HEADROOM_CLICKHOUSE_URL"
        )

    def _refusal(self, code: int | None, words: str) -> ClickHouseError:
        advice = ADVICE.get(code or 0, "see the server's log")
        what = " ".join(words.partition("(version")[0].split())
        return ClickHouseError(f"{self.place}: {what[:500]}: {advice}")
