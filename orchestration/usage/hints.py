"""What a refused line looks like, where its shape says which tool wrote it: a sentence with what to do. Pure."""

import json
import re
from typing import Any

from orchestration.usage import events

_PARTITION = re.compile(r"(?:^|/)([A-Za-z_]+)=[^/]+(?=/)")
_NAMES = {
    name.removeprefix("properties.")
    for name in (*events.NAME_FIELDS, *events.ACCOUNT_FIELDS, *events.TIME_FIELDS, *events.QUOTA_FIELDS)
}


def find_hint(landed_file: str, line: str | None) -> str:
    """A sentence; empty where the shape is not known."""
    text = line or ""
    if text.startswith("\x1f"):
        return "These are gzip bytes: send them with Content-Encoding: gzip and as a whole, or land them as a file."
    if re.search(r"\}\s*\{", text):
        return "Several objects are in one line: put a line break after each."
    if "cut off: the line is too long" in text:
        return "The line is longer than 8 MiB: put a line break after each event."
    value = _object(text)
    if {"schema", "payload"} <= value.keys():
        return "This is Kafka Connect's envelope: set value.converter.schemas.enable=false to land only the payload."
    if {"topic", "partition", "offset", "value"} <= value.keys():
        return "This is a Kafka record with its metadata: land only its `value`."
    if {"log", "stream"} <= value.keys() and isinstance(value["log"], str):
        return "This is Docker's json-file log: land what is in `log`, which the log driver or the collector can send."
    if "before" in value and "after" in value and "op" in value:
        return "This is Debezium's envelope: land only its `after`, by the transform ExtractNewRecordState."
    missing = [name for name in _PARTITION.findall(landed_file) if name in _NAMES and name not in value]
    if missing and value:
        return (
            f"Hive keeps {', '.join(missing)} in the names of folders, not in the rows: write it into each row as well."
        )
    if text.count("\x01") > 1:
        return "These are Hive's text rows: export them as JSON, CSV or Parquet."
    return ""


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
