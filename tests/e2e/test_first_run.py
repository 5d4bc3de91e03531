"""The first run with a key, at a Stripe without a meter: the numbers are there, and the message says what to do."""

from datetime import datetime
from pathlib import Path

from tests.e2e.program import NOW, STRIPE_KEY, Program
from tests.fakes.stripe_catalog import CatalogStripe
from tests.support.builders import land, make_event

ACCOUNTS = """\
account_id,name,owner,plan,mrr,stripe_customer_id
acme,Acme Corp,dana@example.com,growth,499.00,cus_acme
"""


def test_first_run_without_a_meter_fails_only_what_reports_to_stripe(tmp_path: Path) -> None:
    with CatalogStripe() as stripe:
        stripe.keys[STRIPE_KEY] = None
        stripe.clock = datetime.fromisoformat(NOW).timestamp
        stripe.add_customer("cus_acme")
        program = Program(tmp_path, {"STRIPE_API_KEY": STRIPE_KEY, "STRIPE_API_BASE": stripe.url})
        program.data.mkdir(parents=True)
        (program.data / "accounts.csv").write_text(ACCOUNTS)
        land(program.landing, "calls.ndjson", make_event("acme", "2024-11-20T06:30:00Z"))

        assert "make     meter api-calls: is missing" in program.ask("stripe", "bootstrap").stdout
        first = program.run("run", status=1)
        failed = [line for line in first.stderr.splitlines() if " failed: " in line]
        said = (
            "Stripe has no active meter with the event name 'api-calls'. Create it with `headroom stripe"
            " bootstrap --apply`, or set HEADROOM_STRIPE_METER to the name of yours"
        )
        assert sorted(failed) == [f"headroom: {name} failed: {said}" for name in ("stripe_invoices", "stripe_usage")]
        assert program.rows("select account_id, calls from daily_usage") == [{"account_id": "acme", "calls": 1}]
        assert "usage_digest FAILED" not in first.stdout
        assert program.ledger("select key from deliveries where key like '%|digest|2024-11-20|slack'") != []

        assert "made     meter api-calls" in program.ask("stripe", "bootstrap", "--apply").stdout
        assert "Stripe: took 1 of 1 new customer-hour" in program.run("run", "--only", "stripe").stdout
        assert sum(stripe.totals("cus_acme", "api-calls").values()) == 1
