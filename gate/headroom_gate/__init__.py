"""Headroom's gate: limits and quotas at the door of an API.

    limits = Limits("https://headroom.example.com/v1/limits", key=os.environ["HEADROOM_GATE_KEY"])
    gate = Gate(limits, counter=RedisCounter("redis://localhost"), events=HeadroomEvents(...))
    app = GateMiddleware(app, gate)

Nothing here imports Headroom itself. docs/gate/index.md explains it.
"""

from headroom_gate.gate import Gate
from headroom_gate.identify import subject_of_key
from headroom_gate.reader import Limits

__all__ = ["Gate", "Limits", "subject_of_key"]
