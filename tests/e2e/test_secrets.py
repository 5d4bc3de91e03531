"""A full run of everything that knows a secret, ways to fail included: none of the secrets is anywhere afterwards."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from orchestration.settings import Settings
from tests.e2e.program import NOBODY, NOW, SLACK_TOKEN, STRIPE_KEY, Program
from tests.e2e.test_run import land_small
from tests.fakes.postgres import Postgres
from tests.fakes.slack import FakeSlack, refused
from tests.fakes.stripe import FakeStripe
from tests.fakes.webhook import FakeWebhook
from tests.orchestration.collector import loopback
from tests.support.builders import make_event

PASSWORD = "marked/POSTGRES@secret:1138"
COLLECTOR_KEY = "marked-COLLECTOR-secret-2187"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"marked-WEBHOOK-secret-3263").decode()
HEARTBEAT = "marked-HEARTBEAT-secret-4471"
DSN = f"postgresql://postgres:{quote(PASSWORD, safe='')}@"


def spellings(secret: str) -> set[bytes]:
    """As it is, as it stands in an address, and as a header has it."""
    encoded = base64.b64encode(secret.encode()).rstrip(b"=")
    return {secret.encode(), quote(secret, safe="").encode(), encoded}


SECRETS = {
    "SLACK_BOT_TOKEN": SLACK_TOKEN,
    "STRIPE_API_KEY": STRIPE_KEY,
    "HEADROOM_LEDGER_URL": PASSWORD,
    "HEADROOM_DAGSTER_POSTGRES_URL": PASSWORD,
    "HEADROOM_DESTINATION_URL": PASSWORD,
    "HEADROOM_CLICKHOUSE_URL": PASSWORD,
    "HEADROOM_COLLECT_KEYS": COLLECTOR_KEY,
    "HEADROOM_COLLECT_WEBHOOK_SECRETS": WEBHOOK_SECRET,
    "HEADROOM_HEARTBEAT_URL": HEARTBEAT,
}

MARK = "marked-ROUTE-secret-5519"
ROUTES: Mapping[str, tuple[str, str, dict[str, str]]] = {
    "mail": (
        "email",
        "to = 'a@example.com'\noptions = { from = 'usage@example.com' }",
        {"URL": f"smtp://u:{MARK}@127.0.0.1:9"},
    ),
    "hook": ("webhook", "", {"URL": f"{NOBODY}/{MARK}", "SECRET": WEBHOOK_SECRET}),
    "flow": ("teams", "", {"URL": f"{NOBODY}/workflows/{MARK}"}),
    "room": ("discord", "to = '123456789012345678'", {"TOKEN": MARK, "API_URL": NOBODY}),
    "chat": ("telegram", "to = '-100123'", {"TOKEN": f"815:{MARK}", "API_URL": NOBODY}),
    "rows": ("notion", f"to = '{'0f' * 16}'", {"TOKEN": f"ntn_{MARK}", "API_URL": NOBODY}),
    "pager": ("pagerduty", "", {"ROUTING_KEY": "5519" * 8, "API_URL": NOBODY}),
    "side": ("slack", "to = 'C0SIDE'", {"TOKEN": f"xoxb-{MARK}", "API_URL": NOBODY}),
}
"""By name: channel, address and options, secrets."""
OF_ROUTES = {"a route": MARK, "PagerDuty": "5519" * 8}


@pytest.fixture
def program(tmp_path: Path, postgres: Postgres) -> Iterator[Program]:
    names = ("HEADROOM_LEDGER_URL", "HEADROOM_DAGSTER_POSTGRES_URL", "HEADROOM_DESTINATION_URL")
    urls = {name: postgres.database().replace("postgresql://postgres@", DSN) for name in names}
    with FakeSlack() as slack, FakeStripe() as stripe:
        stripe.keys[STRIPE_KEY] = None
        stripe.clock = datetime.fromisoformat(NOW).timestamp
        stripe.add_meter("api-calls", "hour")
        stripe.add_customer("cus_acme")
        program = Program(
            tmp_path,
            {
                "STRIPE_API_KEY": STRIPE_KEY,
                "STRIPE_API_BASE": stripe.url,
                **urls,
                "HEADROOM_COLLECT_KEYS": COLLECTOR_KEY,
                "HEADROOM_COLLECT_WEBHOOK_SECRETS": WEBHOOK_SECRET,
                "HEADROOM_HEARTBEAT_URL": f"{NOBODY}/{HEARTBEAT}",
            },
        )
        program.with_slack(slack)
        slack.then(refused("invalid_auth"))
        yield program


def test_every_secret_setting_is_marked_here() -> None:
    secret = {field.alias for field in Settings.model_fields.values() if "SecretStr" in str(field.annotation)}

    assert secret == set(SECRETS)


def test_no_secret_is_printed_logged_or_stored(program: Program) -> None:
    land_small(program)
    (program.data / "destination.toml").write_text('["public.usage"]\ncopy = "utilization_mtd"\n')
    nowhere = {"HEADROOM_LEDGER_URL": f"{DSN}127.0.0.1:9/headroom"}
    clickhouse = f"http://default:{quote(PASSWORD, safe='')}@127.0.0.1:9/db"
    ends = [
        program.ask("db", "upgrade"),
        program.run("run", status=1),  # Slack refuses the token, and the destination has no table
        make_table(program),
        program.run("run", "--only", "digest"),
        program.run("run", "--only", "postgres"),
        program.run("run", "--only", "stripe", status=1, STRIPE_API_BASE=NOBODY, HEADROOM_NOW="2024-11-20T10:30:00Z"),
        program.run("run", "--only", "models", status=1, HEADROOM_CLICKHOUSE_URL=clickhouse),
        program.ask("stripe", "check", status=1, STRIPE_API_KEY=f"{STRIPE_KEY}_revoked"),
        program.ask("deliveries", status=1, **nowhere),
        program.ask("db", "upgrade", status=1, **nowhere),
        program.ask("doctor", status=1),
        program.ask("doctor", "--configuration"),
        program.ask("deliveries"),
        collected(program),
        *sent_by_routes(program),
    ]

    printed = "".join(each if isinstance(each, str) else each.stdout + each.stderr for each in ends).encode()
    stored = b"\n".join(path.read_bytes() for path in program.files())
    rows = b"\n".join(stored_in(url) for name, url in program.environment.items() if SECRETS.get(name) == PASSWORD)
    assert b"Acme" in printed
    assert b"acme" in stored
    assert b"usage_digest" in rows
    assert b"Acme Corp" in rows
    assert b"of the route pager" in rows
    for name, secret in (SECRETS | OF_ROUTES).items():
        for spelling in spellings(secret):
            for where, content in {"printed": printed, "in a file": stored, "in Postgres": rows}.items():
                assert spelling not in content, f"{name} is {where}: {context(content, spelling)!r}"


def sent_by_routes(program: Program) -> Iterator[subprocess.CompletedProcess[str]]:
    """What is said of routes to every vendor while none answers, and of one that arrives."""
    text = "".join(
        f'[[route]]\nname = "{name}"\ntakes = "failure"\nchannel = "{channel}"\n{rest}\n'
        for name, (channel, rest, _) in ROUTES.items()
    )
    (program.data / "routes.toml").write_text(text)
    secrets = {
        f"HEADROOM_ROUTE_{name.upper()}_{secret}": value
        for name, (_, _, of) in ROUTES.items()
        for secret, value in of.items()
    }
    yield program.ask("routes", "list", **secrets)
    yield program.ask("routes", "check", status=1, **secrets)
    for name in ROUTES:
        yield program.ask("test-route", name, status=1, **secrets)
    with FakeWebhook() as hook:
        own = {"HEADROOM_ROUTE_HOOK_URL": f"{hook.url}&key={MARK}", "HEADROOM_ROUTE_HOOK_SECRET": hook.secret}
        arrived = program.ask("test-route", "hook", **secrets | own)
    assert hook.arrived
    assert hook.secret not in arrived.stdout + arrived.stderr
    yield arrived
    yield program.ask("deliveries", **secrets)
    yield program.ask("doctor", status=1, **secrets)


def collected(program: Program) -> str:
    """What the collector says of an event, of a wrong key and of a wrong signature."""
    names = ("HEADROOM_COLLECT_KEYS", "HEADROOM_COLLECT_WEBHOOK_SECRETS", "HEADROOM_LANDING")
    collector = loopback.Program(program.data, {name: program.environment[name] for name in names})
    event = json.dumps(make_event("acme", NOW)).encode()
    signature = {"webhook-id": "msg_1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
    with collector.running() as port:
        answers = [
            loopback.request(port, "/v1/events", event, headers)
            for headers in ({"X-API-Key": COLLECTOR_KEY}, {"X-API-Key": f"{COLLECTOR_KEY}x"}, signature)
        ]
        metrics = loopback.request(port, "/metrics", method="GET")
        collector.stop()
    assert [answer.status for answer in answers] == [200, 401, 401]
    return collector.log + str(answers).replace(f"{COLLECTOR_KEY}x", "") + metrics.body.decode()


def make_table(program: Program) -> str:
    said = program.ask("postgres", "--print-ddl").stdout
    engine = sa.create_engine(program.environment["HEADROOM_DESTINATION_URL"])
    with engine.begin() as connection:
        connection.exec_driver_sql(said)
    engine.dispose()
    return said


def stored_in(url: str) -> bytes:
    """Every row of every table there, as text."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        tables = connection.execute(
            sa.text(
                "select format('%I.%I', table_schema, table_name) from information_schema.tables"
                " where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'"
            )
        ).scalars()
        rows = [
            row
            for table in tables.all()
            for row in connection.execute(sa.text(f"select each::text from {table} as each")).scalars()
        ]
    engine.dispose()
    return "\n".join(rows).encode()


def context(content: bytes, spelling: bytes) -> bytes:
    at = content.index(spelling)
    return content[max(at - 200, 0) : at]
