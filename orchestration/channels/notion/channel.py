"""Notion: a row of a database for each message, made once, found again by its key. The only importer of its client.

A database has one or several data sources since Notion's version 2025-09-03; rows are made in, and asked of, a data
source. `to` may be the id of either. A long message goes on in its page, each further part as a reply of the delivery.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from notion_client import Client
from notion_client.client import RetryOptions
from notion_client.errors import HTTPResponseError, NotionClientErrorBase

from orchestration.channels.http import certificates
from orchestration.channels.notion.blocks import plain_text
from orchestration.ledger.ledger import Delivery
from orchestration.ledger.outbox import InDoubtError, Promise, RefusedError
from orchestration.usage.findings import Finding

VERSION = "2025-09-03"
"""Of the API, whatever the client's default will be."""
TIMEOUT_SECONDS = 10
MAX_WAIT_SECONDS = 8
"""Longest wait before the one repetition of what was refused with 429. With it, two tries stay below half of the
outbox's ATTEMPT_LIMIT."""
KEY, DATE, KIND = "Key", "Date", "Kind"
NEEDED = {KEY: "rich_text", DATE: "date"}
"""Properties that a row needs besides its title, and Notion's types of them."""
TYPES = {"rich_text": "Text", "date": "Date"}
"""What people choose in Notion."""

_REMEDIES = {
    401: "its token is not valid. Copy the secret of the integration again",
    403: "give the integration the capabilities to read and to insert content",
    404: "check the id, and add the integration to the database (••• > Connections)",
    409: "somebody changed it at the same moment: run again",
    429: "it takes no more requests for the moment: run again in a minute",
    400: "Notion refuses the form of this message. `headroom deliveries` has it: update Headroom",
}
_SILENT = logging.getLogger(f"{__name__}.client")
"""The client's own logger prints what Notion says; this one stays below its level."""


class NotionChannel:
    """Makes rows in `to`, the id of a database or of a data source. `base_url` is another address of the API."""

    name = "Notion"
    is_preview = False
    promise = Promise.EXACTLY_ONCE  # it can be asked

    def __init__(self, token: str, to: str = "", base_url: str | None = None) -> None:
        """:raises ValueError: the token cannot be sent, and would be shown by the error of the client."""
        if not re.fullmatch("[!-~]+", token):
            raise ValueError("the token of Notion contains spaces, line breaks or other signs that no token has")
        self._to = to
        self._schemas: dict[str, Mapping[str, Any]] = {}
        self._sources: dict[str, str] = {}
        self._client = Client(
            # no connection outlives its request: who holds the channel does not have to close it
            client=httpx.Client(verify=certificates(), limits=httpx.Limits(max_keepalive_connections=0)),
            auth=token,
            base_url=base_url or "https://api.notion.com",
            notion_version=VERSION,
            timeout_ms=TIMEOUT_SECONDS * 1000,
            retry=RetryOptions(max_retries=1, max_retry_delay_ms=MAX_WAIT_SECONDS * 1000),
            logger=_SILENT,
            log_level=logging.CRITICAL,
        )

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        """The id of a data source that has all properties, or that of the page that is continued."""
        if parent is not None:
            return str(parent.receipt)
        source = self._source(str(delivery.payload.get("to") or self._to))
        if problem := _missing(self._schema(source)):
            raise RefusedError(f"the database {problem}")
        return source

    def send(self, delivery: Delivery) -> str:
        """:return: the id of the page."""
        row, address = delivery.payload, str(delivery.address)
        with self._explained("the row", f"{delivery.key} may be there; the next run looks before it makes another one"):
            if "heading" in row:
                self._client.blocks.children.append(address, children=row["blocks"])
                return address
            page = self._client.pages.create(
                parent={"type": "data_source_id", "data_source_id": address},
                properties=self._properties(delivery),
                children=row["blocks"],
            )
            return str(page["id"])  # type: ignore[index]  # the client has one type for both of its clients

    def find(self, delivery: Delivery) -> str | None:
        if not delivery.address:
            return None
        with self._explained("the row", f"{delivery.key} could not be looked up; the next run tries again"):
            if heading := delivery.payload.get("heading"):
                is_there = any(plain_text(block) == heading for block in self._children(delivery.address))
                return delivery.address if is_there else None
            condition = {"property": KEY, "rich_text": {"equals": delivery.mark}}
            found: Any = self._client.data_sources.query(delivery.address, filter=condition, page_size=1)
            return next((str(page["id"]) for page in found["results"]), None)

    def permalink(self, delivery: Delivery) -> str:
        """The address of the row's page, for a browser.

        :raises RefusedError: Notion did not say.
        """
        with self._explained(f"the link to {delivery.key}", "the next run asks again", RefusedError):
            page: Any = self._client.pages.retrieve(str(delivery.receipt))
            return str(page["url"])

    def check(self) -> list[Finding]:
        """Whether rows can be made: token, database, properties. Makes none."""
        try:
            with self._explained("the token", "run again", RefusedError):
                self._client.users.me()
        except RefusedError as error:
            return [Finding("token", str(error))]
        try:
            source = self._source(self._to)
            schema = self._schema(source)
        except RefusedError as error:
            return [Finding("token"), Finding("database", str(error))]
        return [Finding("token"), Finding("database"), Finding("properties of the database", _missing(schema))]

    def _properties(self, delivery: Delivery) -> dict[str, Any]:
        """Of a row. The id of the title is "title", whatever people call it."""
        row = delivery.payload
        properties: dict[str, Any] = {
            "title": {"title": [{"text": {"content": row["title"]}}]},
            KEY: {"rich_text": [{"text": {"content": delivery.mark}}]},
            DATE: {"date": {"start": delivery.created_at.isoformat()}},
        }
        schema = self._schema(str(delivery.address))
        if schema.get(KIND, {}).get("type") == "select":
            properties[KIND] = {"select": {"name": row["kind"]}}
        return properties

    def _source(self, to: str) -> str:
        """The data source of that id, or the one of the database of that id.

        :raises RefusedError: there is none, or there are several, or Notion did not say.
        """
        if to not in self._sources:
            if not re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", to):
                raise RefusedError(
                    "the address is not an id of Notion: take the 32 letters and digits of the database's URL"
                )
            self._sources[to] = self._found_source(to)
        return self._sources[to]

    def _found_source(self, to: str) -> str:
        try:
            with self._explained("the database", "run again", RefusedError):
                database: Any = self._client.databases.retrieve(to)
        except _NotFoundError:
            self._schema(to)
            return to
        sources = [str(each["id"]) for each in database["data_sources"]]
        if len(sources) != 1:
            raise RefusedError(
                f"the database has {len(sources)} data sources: name the id of one of them (Manage data sources)"
            )
        return sources[0]

    def _schema(self, source: str) -> Mapping[str, Any]:
        """The properties by name, as they were when this channel was opened."""
        if source not in self._schemas:
            with self._explained("the database", "run again", RefusedError):
                found: Any = self._client.data_sources.retrieve(source)
                self._schemas[source] = found["properties"]
        return self._schemas[source]

    def _children(self, page: str) -> Iterator[Mapping[str, Any]]:
        cursor: dict[str, str] = {}
        while True:
            found: Any = self._client.blocks.children.list(page, page_size=100, **cursor)
            yield from found["results"]
            if not found.get("has_more"):
                return
            cursor = {"start_cursor": found["next_cursor"]}

    @contextmanager
    def _explained(self, what: str, doubt: str, otherwise: type[Exception] = InDoubtError) -> Iterator[None]:
        """Turns the client's errors into sentences; `otherwise` is raised where Notion did not clearly refuse.

        None quotes the client: its texts hold what Notion said.
        """
        try:
            yield
        except HTTPResponseError as error:
            status = error.status
            if not 400 <= status < 500:
                raise otherwise(f"Notion failed (HTTP {status}): {doubt}") from None
            kind = _NotFoundError if status == 404 else RefusedError
            remedy = _REMEDIES.get(status, "look the status up in Notion's documentation")
            raise kind(f"Notion refused (HTTP {status}) for {what}: {remedy}") from None
        except httpx.ConnectError as error:
            raise RefusedError(f"Notion could not be reached for {what} ({type(error).__name__}): run again") from None
        except (NotionClientErrorBase, httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise otherwise(f"no usable answer from Notion ({type(error).__name__}): {doubt}") from None


class _NotFoundError(RefusedError):
    """There is nothing with that id, or the integration does not see it."""


def _missing(schema: Mapping[str, Any]) -> str:
    """Which properties to add; empty where all are there."""
    wanted = [
        f"{name} (type {TYPES[kind]})" for name, kind in NEEDED.items() if schema.get(name, {}).get("type") != kind
    ]
    return f"needs properties that it does not have: add {' and '.join(wanted)}" if wanted else ""
