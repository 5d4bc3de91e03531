"""OpenTelemetry logs, as the Python exporter sends them, and as JSON."""

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from tests.orchestration.collector.loopback import KEY, Collecting, post, request, stored, zipped

PATH = "/v1/logs"
PROTOBUF = {"Content_Type": "application/x-protobuf"}
NANOSECONDS = 1_763_622_723_123_456_789


def pair(key: str, **value: object) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(**value))  # type: ignore[arg-type]


def exported(*records: LogRecord) -> bytes:
    logs = ResourceLogs(scope_logs=[ScopeLogs(log_records=records)])
    return ExportLogsServiceRequest(resource_logs=[logs]).SerializeToString()


def test_log_record_becomes_an_event(collector: Collecting) -> None:
    attributes = [
        pair("account_id", string_value="acme"),
        pair("status", int_value=200),
        pair("ratio", double_value=0.5),
        pair("cached", bool_value=True),
        pair("raw", bytes_value=b"\xff"),
        pair("tags", array_value=ArrayValue(values=[AnyValue(string_value="a"), AnyValue()])),
        pair("deep", kvlist_value=KeyValueList(values=[pair("x", int_value=1)])),
        pair("log.record.uid", string_value="u-1"),
    ]
    named = LogRecord(event_name="api_call", time_unix_nano=NANOSECONDS, attributes=attributes)
    plain = LogRecord(body=AnyValue(string_value="api_call"), observed_time_unix_nano=NANOSECONDS)
    reply = post(collector.port, zipped(exported(named, plain)), PATH, **PROTOBUF, Content_Encoding="gzip")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-protobuf")
    assert ExportLogsServiceResponse.FromString(reply.body) == ExportLogsServiceResponse()
    time = "2025-11-20T07:12:03.123456+00:00"
    assert collector.finished() == [
        {
            "event": "api_call",
            "timestamp": time,
            "id": "u-1",
            "properties": {
                "account_id": "acme",
                "status": 200,
                "ratio": 0.5,
                "cached": True,
                "raw": "ff",
                "tags": ["a", None],
                "deep": {"x": 1},
                "log.record.uid": "u-1",
            },
        },
        {"event": "api_call", "timestamp": time, "properties": {}},
    ]


def test_json_is_answered_in_json(collector: Collecting) -> None:
    record = {
        "eventName": "api_call",
        "attributes": [{"key": "account_id", "value": {"stringValue": "acme"}}],
        "new": 1,
    }
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    reply = post(collector.port, body, PATH, Content_Type="application/json")
    assert (reply.status, reply.headers["content-type"], reply.json) == (200, "application/json", {})
    assert collector.finished() == [{"event": "api_call", "properties": {"account_id": "acme"}}]


@pytest.mark.parametrize("path", ["/v1/logs/", "/otlp/v1/logs", "/otlp/v1/logs/"])
def test_protobuf_is_read_on_each_path_of_logs(collector: Collecting, path: str) -> None:
    assert post(collector.port, exported(LogRecord(event_name="api_call")), path, **PROTOBUF).status == 200
    assert collector.finished() == [{"event": "api_call", "properties": {}}]


def test_json_is_read_whatever_its_type(collector: Collecting) -> None:
    body = b' {"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"api_call"}]}]}]}'
    assert post(collector.port, body, "/v1/logs/", Content_Type="text/plain").json == {}
    assert post(collector.port, body, PATH).json == {}
    assert collector.finished() == [{"event": "api_call", "properties": {}}] * 2


@pytest.mark.parametrize(
    ("kind", "path", "advice"),
    [
        ("application/x-protobuf", "/v1/traces", "send them to /v1/logs"),
        ("application/protobuf", "/batch/", "send them to /v1/logs"),
        ("application/msgpack", "/fluent", "Format json_lines"),
        ("application/x-MsgPack; charset=binary", "/v1/logs", "Format json_lines"),
        ("application/vnd.msgpack", "/v1/analytics/x/", "Format json_lines"),
    ],
)
def test_type_that_is_not_read_is_refused_and_not_quarantined(
    collector: Collecting, kind: str, path: str, advice: str
) -> None:
    reply = post(collector.port, b"\x81\xa5event\xa8api_call", path, Content_Type=kind)
    assert (reply.status, advice in reply.json["error"]) == (415, True)
    collector.stop()
    assert stored(collector.folder) == []


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"{"])
@pytest.mark.parametrize("kind", ["application/x-protobuf", "application/json"])
def test_what_is_no_export_is_refused(collector: Collecting, body: bytes, kind: str) -> None:
    assert post(collector.port, body, PATH, Content_Type=kind).status == 400
    assert collector.finished() == []


def test_empty_export_is_a_success_and_stores_nothing(collector: Collecting) -> None:
    assert post(collector.port, exported(), PATH, **PROTOBUF).status == 200
    assert post(collector.port, b"", PATH, **PROTOBUF).status == 200
    assert collector.finished() == []


def test_request_is_refused_when_no_header_has_the_key(collector: Collecting) -> None:
    assert request(collector.port, PATH, exported(LogRecord(event_name=KEY)), {}).status == 401


def test_number_of_records_is_bounded(collector: Collecting) -> None:
    assert post(collector.port, exported(*[LogRecord()] * 10_001), PATH, **PROTOBUF).status == 413
