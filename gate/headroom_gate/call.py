"""One call at the door, the same for ASGI, WSGI and proxies: what the gate decided, and what became of it."""

from headroom_gate.gate import Gate
from headroom_gate.headers import Fields
from headroom_gate.policy import Decision


class Call:
    """A call that was decided. It is reported once: refused, or by the first status that its answer has."""

    __slots__ = ("_decision", "_gate", "_subject", "endpoint", "is_reported")

    def __init__(self, gate: Gate, subject: str, endpoint: str | None, decision: Decision) -> None:
        self._gate, self._subject, self._decision = gate, subject, decision
        self.endpoint, self.is_reported = endpoint, False

    @property
    def is_allowed(self) -> bool:
        return self._decision.is_allowed

    @property
    def status(self) -> int:
        """Of a refusal."""
        return self._decision.status

    @property
    def reason(self) -> str:
        return self._decision.reason

    def answered(self, status: int | None) -> None:
        """The API answers with this status; None where none is known. Call it before the answer leaves."""
        if not self.is_reported:
            self.is_reported = True
            self._gate.served(self._subject, self._decision, self.endpoint, status)

    def refusal(self) -> tuple[Fields, bytes]:
        """Header fields and body of the answer to a refused call."""
        self.is_reported = True
        return self._gate.refused(self._subject, self._decision, self.endpoint)

    def fields(self) -> Fields:
        """What the gate adds to the answer of the API."""
        return self._gate.fields(self._decision)
