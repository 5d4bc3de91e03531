"""From a billed hour down to its events: each with its units, and with the file and line that it came from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestration.billing.meters import in_csv, in_units
from orchestration.billing.statements import Explanation
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.usage.meters import Meter
from orchestration.warehouse.raw_events import RawEvent, raw_events

COLUMNS = (
    *("stripe_customer_id", "event_at", "account_id", "endpoint", "units", "event_id", "landed_file", "line_number"),
    *("subject", "source", "status", "sample_weight", "batch", "ingested_at"),
)


@dataclass
class EventTrail:
    """Events of the hours of an explanation. What was seen of them is in `events` and `units` after the last one."""

    explanation: Explanation
    config: Settings
    meter: Meter
    """That adds up."""
    events: int = field(default=0, init=False)
    units: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[RawEvent]:
        """One after the other, in the order of their times; memory does not grow with them."""
        told, config = self.explanation, self.config
        found = raw_events(
            *(config.published, config.lake, told.stripe_customer_id, told.start, told.end, config.bill_sampled),
            meter=self.meter,
        )
        for event in found:
            self.events += 1
            self.units += event.units
            yield event

    @property
    def counted_units(self) -> int:
        """By the published copy."""
        return sum(hour.counted_units for hour in self.explanation.hours)

    @property
    def sentence(self) -> str:
        """Whether the events are the units that were counted."""
        events, units = counted(self.events, "event"), in_units(self.meter, self.units)
        if self.units == self.counted_units:
            return f"{events}, {units}: as many as counted"
        more, then = self.units - self.counted_units, self.meter.exact(self.counted_units)
        return (
            f"{events}, {units}, but {then} counted at {self.explanation.as_of:%Y-%m-%d %H:%M} UTC:"
            f" {'+' if more > 0 else ''}{self.meter.exact(more)} since then. The next run counts again"
        )


def row(customer: str, event: RawEvent, meter: Meter) -> Sequence[object]:
    """The values of COLUMNS."""
    return (
        *(customer, _moment(event.event_at), event.account_id, event.endpoint or "", in_csv(meter, event.units)),
        *(event.event_id, event.landed_file, event.line_number, event.subject, event.source),
        *("" if event.status is None else event.status, event.sample_weight, event.batch, _moment(event.ingested_at)),
    )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
