"""Notion's API on loopback, version 2025-09-03, by its pages "Request limits", "Status codes" and those of calls."""

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.fakes.faults import Fault
from tests.fakes.loopback import Loopback

MAX_TEXT_CHARACTERS = 2_000
MAX_BLOCKS = 100
MAX_TEXTS = 100
MAX_BYTES = 500_000


class FakeNotion(Loopback):
    """A workspace with two databases of one data source each, both shared with the integration."""

    name = "notion"
    to = "d0000000000000000000000000000001"
    other_to = "d0000000000000000000000000000002"
    version = "2025-09-03"

    def __init__(self) -> None:
        super().__init__()
        self.token = "ntn_fake_token"
        self.schema: dict[str, str] = {"Name": "title", "Key": "rich_text", "Date": "date", "Kind": "select"}
        """Types by name, of all data sources."""
        self.databases = {self.to: ["5" * 32], self.other_to: ["6" * 32]}
        """Ids of their data sources."""
        self.pages: list[dict[str, Any]] = []
        self.page_size = 100
        """Blocks or rows of one answer at most."""
        self._numbers = itertools.count(1)

    def environment(self, route: str) -> dict[str, str]:
        prefix = f"HEADROOM_ROUTE_{route.upper().replace('-', '_')}"
        return {f"{prefix}_TOKEN": self.token, f"{prefix}_API_URL": self.url}

    @property
    def arrived(self) -> list[dict[str, Any]]:
        """Rows of all databases."""
        return [
            {
                "mark": page["values"]["Key"],
                "text": "\n".join([page["values"]["title"], *(_plain(block) for block in page["blocks"])]),
            }
            for page in self.pages
        ]

    def is_sending(self, method: str, path: str) -> bool:
        return (method, path) == ("POST", "/v1/pages") or method == "PATCH"

    def worded(self, fault: Fault) -> Fault:
        codes = {403: "restricted_resource", 429: "rate_limited"}
        return (
            replace(fault, body=json.dumps(_error(fault.status, codes[fault.status])[1]))
            if fault.status in codes
            else fault
        )

    def apply(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        address = urlsplit(path)
        if headers.get("notion-version") != self.version:
            return _error(400, "missing_version")
        if headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "unauthorized", "API token is invalid.")
        if len(json.dumps(body, ensure_ascii=False).encode()) > MAX_BYTES:
            return _error(413, "validation_error")
        match (method, *address.path.strip("/").split("/")[1:]):
            case ("GET", "users", "me"):
                return 200, {"object": "user", "type": "bot", "name": "Headroom"}
            case ("GET", "databases", database) if _id(database) in self.databases:
                sources = [{"id": _dashed(each), "name": "Messages"} for each in self.databases[_id(database)]]
                return 200, {"object": "database", "id": _dashed(_id(database)), "data_sources": sources}
            case ("GET", "data_sources", source) if self._is_source(source):
                properties = {name: {"id": kind[:4], "name": name, "type": kind} for name, kind in self.schema.items()}
                return 200, {"object": "data_source", "id": source, "properties": properties}
            case ("POST", "data_sources", source, "query") if self._is_source(source):
                return self._query(_id(source), body)
            case ("POST", "pages"):
                return self._create(body)
            case ("GET", "pages", page) if found := self._page(page):
                return 200, _shown(found)
            case ("GET", "blocks", page, "children") if found := self._page(page):
                return self._listed(found["blocks"], dict(parse_qsl(address.query)))
            case ("PATCH", "blocks", page, "children") if found := self._page(page):
                if problem := _problem_of(body["children"]):
                    return _error(400, "validation_error", problem)
                found["blocks"] += body["children"]
                return 200, {"object": "list", "results": body["children"]}
        return _error(404, "object_not_found", "Make sure the relevant pages and databases are shared.")

    def _is_source(self, source: str) -> bool:
        return any(_id(source) in sources for sources in self.databases.values())

    def _page(self, page: str) -> dict[str, Any] | None:
        return next((each for each in self.pages if _id(each["id"]) == _id(page)), None)

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        source = body["parent"]["data_source_id"]
        if not self._is_source(source):
            return _error(404, "object_not_found")
        values = {}
        for name, value in body["properties"].items():
            kind = "title" if name == "title" else self.schema.get(name)
            if kind is None:
                return _error(400, "validation_error", f"{name} is not a property that exists.")
            if set(value) != {kind}:
                return _error(400, "validation_error", f"{name} is expected to be {kind}.")
            if kind in ("title", "rich_text") and (problem := _problem_of_texts(value[kind])):
                return _error(400, "validation_error", problem)
            values[name] = _value(kind, value[kind])
        if problem := _problem_of(body.get("children", [])):
            return _error(400, "validation_error", problem)
        page = {
            "id": _dashed(f"{next(self._numbers):032x}"),
            "source": _id(source),
            "values": values,
            "blocks": list(body.get("children", [])),
        }
        self.pages.append(page)
        return 200, _shown(page)

    def _query(self, source: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked = body["filter"]
        if self.schema.get(asked["property"]) != "rich_text":
            return _error(400, "validation_error", f"Could not find property with name or id: {asked['property']}")
        rows = [page for page in self.pages if page["source"] == source]
        found = [page for page in rows if page["values"].get(asked["property"]) == asked["rich_text"]["equals"]]
        return 200, {"object": "list", "results": [_shown(page) for page in found[: body.get("page_size", 100)]]}

    def _listed(self, blocks: list[dict[str, Any]], query: Mapping[str, str]) -> tuple[int, Any]:
        start = int(query.get("start_cursor", 0))
        end = start + min(int(query.get("page_size", 100)), self.page_size)
        shown = [{**block, block["type"]: {"rich_text": _shown_texts(block)}} for block in blocks[start:end]]
        has_more = end < len(blocks)
        return 200, {
            "object": "list",
            "results": shown,
            "has_more": has_more,
            "next_cursor": str(end) if has_more else None,
        }


def _error(status: int, code: str, message: str = "") -> tuple[int, dict[str, Any]]:
    return status, {"object": "error", "status": status, "code": code, "message": message, "request_id": "r1"}


def _id(value: str) -> str:
    return value.replace("-", "")


def _dashed(value: str) -> str:
    return f"{value[:8]}-{value[8:12]}-{value[12:16]}-{value[16:20]}-{value[20:]}"


def _shown(page: Mapping[str, Any]) -> dict[str, Any]:
    return {"object": "page", "id": page["id"], "url": f"https://www.notion.so/{_id(page['id'])}"}


def _value(kind: str, value: Any) -> Any:
    match kind:
        case "title" | "rich_text":
            return "".join(text["text"]["content"] for text in value)
        case "select":
            return value["name"]
        case _:
            return value["start"]


def _shown_texts(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{**text, "plain_text": text["text"]["content"]} for text in block[block["type"]]["rich_text"]]


def _plain(block: Mapping[str, Any]) -> str:
    return "".join(text["plain_text"] for text in _shown_texts(block))


def _problem_of(blocks: list[dict[str, Any]]) -> str:
    """Why Notion refuses them; empty where it takes them."""
    if len(blocks) > MAX_BLOCKS:
        return f"body.children.length should be ≤ `100`, instead was `{len(blocks)}`."
    for block in blocks:
        if block.get("type") not in ("paragraph", "heading_2", "bulleted_list_item") or block["type"] not in block:
            return "body.children[0].type is invalid."
        if problem := _problem_of_texts(block[block["type"]]["rich_text"]):
            return problem
    return ""


def _problem_of_texts(texts: list[dict[str, Any]]) -> str:
    if len(texts) > MAX_TEXTS:
        return "rich_text.length should be ≤ `100`."
    for text in texts:
        if _length(text["text"]["content"]) > MAX_TEXT_CHARACTERS:
            return "text.content.length should be ≤ `2000`."
        url = (text["text"].get("link") or {"url": "https://example.com"})["url"]
        if _length(url) > MAX_TEXT_CHARACTERS or not re.fullmatch(r"https?://\S+", url):
            return "Invalid URL for link."
    return ""


def _length(text: str) -> int:
    """As JavaScript counts: an emoji is two."""
    return len(text.encode("utf-16-le")) // 2
