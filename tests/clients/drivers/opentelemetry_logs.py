"""OpenTelemetry's log exporter: attributes are properties, `log.record.uid` is the id."""

from driver_input import EVENTS, KEY, OPTIONS, URL, moment
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult

results: list[LogRecordExportResult] = []


class Exporter(OTLPLogExporter):
    """The exporter, whose results are otherwise only logged."""

    def export(self, batch):
        results.append(super().export(batch))
        return results[-1]


exporter = Exporter(
    endpoint=f"{URL}/v1/logs",
    headers={"Authorization": f"Bearer {KEY}"},
    compression=Compression.Gzip if "gzip" in OPTIONS else Compression.NoCompression,
)
provider = LoggerProvider()
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
logger = provider.get_logger("my-api")
for event in EVENTS:
    attributes = {
        "log.record.uid": event["id"],
        "account_id": event["account"],
        "endpoint": "/v1/search",
        "status": 200,
    }
    nanoseconds = round(moment(event).timestamp() * 1_000_000) * 1000
    if "body" in OPTIONS:
        logger.emit(LogRecord(timestamp=nanoseconds, body="api_call", attributes=attributes))
    else:
        logger.emit(LogRecord(timestamp=nanoseconds, event_name="api_call", attributes=attributes))
provider.shutdown()
assert results, "nothing was exported"
assert set(results) == {LogRecordExportResult.SUCCESS}, results
