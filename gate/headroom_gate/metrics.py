"""What a gate says of itself, in Prometheus's text format."""

from headroom_gate.gate import Gate


def text(gate: Gate) -> str:
    """Counts since the start of this process, and the age of its snapshot."""
    lines = ["# TYPE headroom_gate_calls_total counter"]
    lines += [f'headroom_gate_calls_total{{reason="{reason}"}} {n}' for reason, n in sorted(gate.decisions.items())]
    age, snapshot = gate.limits.age_seconds(), gate.limits.current
    if age is not None:
        lines += ["# TYPE headroom_gate_snapshot_age_seconds gauge", f"headroom_gate_snapshot_age_seconds {age:.0f}"]
    gauges = {
        "headroom_gate_snapshot_accounts": snapshot.accounts if snapshot else 0,
        "headroom_gate_snapshot_is_refused": int(bool(gate.limits.problem)),
    }
    counters = {
        "headroom_gate_redis_failures_total": getattr(gate.counter, "failures", 0),
        "headroom_gate_metering_failures_total": gate.metering.failures,
        "headroom_gate_events_dropped_total": gate.metering.dropped,
    }
    for kind, values in (("gauge", gauges), ("counter", counters)):
        for name, value in values.items():
            lines += [f"# TYPE {name} {kind}", f"{name} {value}"]
    return "\n".join(lines) + "\n"
