"""OpenTelemetry logs over HTTP (`/v1/logs`): each log record becomes an event.

The name is `event_name` or else the body, attributes are properties, and `log.record.uid` is the id. Protobuf, which
all exporters send by default, or JSON.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.json_format import Parse, ParseError  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from orchestration.collector.answers import Answer, RefusedError
from orchestration.collector.bodies import too_many
from orchestration.collector.parsed_body import ParsedBody

PROTOBUF = b"application/x-protobuf"
ID_ATTRIBUTE = "log.record.uid"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ANSWERS = {False: Answer(200, b"", content_type=PROTOBUF), True: Answer(200, b"{}")}
"""An empty ExportLogsServiceResponse, by whether the request is JSON."""


def parse_logs(body: bytes, content_type: bytes, max_events: int) -> ParsedBody:
    """The log records of an ExportLogsServiceRequest.

    :raises RefusedError: it is none, or there are too many.
    """
    # A message of protobuf never begins with a brace, whatever the client says of it.
    is_json = content_type.lower().startswith(b"application/json") or body.lstrip()[:1] == b"{"
    request = ExportLogsServiceRequest()
    try:
        if is_json:
            Parse(body, request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(body)
    except (DecodeError, ParseError, UnicodeDecodeError, RecursionError):
        raise RefusedError(400, "otlp", "the body is not an ExportLogsServiceRequest, as protobuf or JSON") from None
    records = [
        record for resource in request.resource_logs for scope in resource.scope_logs for record in scope.log_records
    ]
    if len(records) > max_events:
        raise too_many(max_events)
    batch = ParsedBody(events=[_event(record) for record in records], answer=_ANSWERS[is_json])
    batch.rewrite()
    return batch


def _event(record: LogRecord) -> dict[str, Any]:
    event: dict[str, Any] = {"event": record.event_name or _value(record.body)}
    nanoseconds = record.time_unix_nano or record.observed_time_unix_nano
    if nanoseconds:
        event["timestamp"] = (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).isoformat()
    properties = {attribute.key: _value(attribute.value) for attribute in record.attributes}
    if ID_ATTRIBUTE in properties:
        event["id"] = properties[ID_ATTRIBUTE]
    event["properties"] = properties
    return event


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return {each.key: _value(each.value) for each in value.kvlist_value.values}
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind) if kind else None
