"""Makes the data folders that test_upgrades.py opens: what an older Headroom left behind, by its own code.

    python -m tests.upgrades.make

takes the commits out of this repository's history, runs the program of each once on a few events against the loopback
vendors, and packs lake, warehouse, ledger and Dagster home of all into `left_behind.tar.xz` beside this file. That was
done once, and the file is kept: a change of today's code cannot change what was left behind.
"""

import io
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
from datetime import datetime
from pathlib import Path

from orchestration.settings import PROJECT_ROOT
from tests.fakes.slack import FakeSlack
from tests.fakes.stripe import FakeStripe
from tests.support.builders import land, make_event, make_quota

COMMITS = {"first": "f525c85", "two_days": "2ed7ac2", "a_day": "fea6fa6"}
"""One of the first morning, 21 November; the last of the 22nd; one of the 28th. Between them nobody worked on it."""
LEFT_BEHIND = Path(__file__).with_name("left_behind.tar.xz")
NOW = "2024-11-20T08:00:00Z"
CUSTOMERS = ("cus_acme", "cus_beta")
ACCOUNTS = """\
account_id,name,owner,plan,mrr,stripe_customer_id
acme,Acme Corp,dana@example.com,growth,499.00,cus_acme
beta,Beta GmbH,,starter,99.00,cus_beta
"""
PROGRAM = "from orchestration.cli import main; getattr(main, 'main', main)()"
"""The command, where it was one module and where it is a folder."""
UNNEEDED = ("dbt", "landing", "preview", "published.duckdb")
"""What the next run makes, and the landed files."""


def land_old_events(landing: Path) -> None:
    """acme at 8 of 10 calls, beta at 2 of 100, one line that is broken and one that came twice."""
    quotas = [make_quota(account, quota, "2024-11-01T00:00:00Z") for account, quota in (("acme", 10), ("beta", 100))]
    calls = [make_event("acme", f"2024-11-19T12:{minute:02}:00Z") for minute in range(7)]
    today = [make_event("acme", "2024-11-20T06:30:00Z"), make_event("beta", "2024-11-20T06:45:00Z")]
    land(landing, "quotas.ndjson", *quotas)
    land(landing, "calls.ndjson", *calls, *today, make_event("beta", "2024-11-02T01:00:00Z"), calls[0], "{broken")


def make(commit: str, folder: Path) -> Path:
    """The data folder that the program of that commit leaves behind."""
    source, data = folder / "source", folder / "data"
    archive = subprocess.run(["git", "archive", commit], cwd=PROJECT_ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(source, filter="data")
    # dbt loads a package of this name as a plugin: that of today, which is installed, wants today's program
    (source / "dbt_project" / "__init__.py").touch()
    land_old_events(data / "landing")
    (data / "accounts.csv").write_text(ACCOUNTS)
    with FakeSlack() as slack, FakeStripe() as stripe:
        stripe.clock = datetime.fromisoformat(NOW).timestamp
        stripe.add_meter("api-calls", "hour")
        for customer in CUSTOMERS:
            stripe.add_customer(customer)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(source),
            "HEADROOM_DATA": str(data),
            "HEADROOM_NOW": NOW,
            "SLACK_BOT_TOKEN": slack.token,
            "SLACK_API_URL": slack.url,
            "HEADROOM_SLACK_CHANNEL": slack.channel,
            "STRIPE_API_KEY": stripe.key,
            "STRIPE_API_BASE": stripe.url,
        }
        subprocess.run([sys.executable, "-c", PROGRAM, "run"], cwd=source, env=environment, check=True)
    return data


def pack() -> bytes:
    """All data folders in one file: alike as they are, together they take little more than the largest."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as files:
        for name, commit in COMMITS.items():
            with tempfile.TemporaryDirectory() as folder:
                data = make(commit, Path(folder))
                for path in sorted(path for path in data.rglob("*") if path.is_file()):
                    inside = path.relative_to(data)
                    if inside.parts[0] not in UNNEEDED:
                        files.add(path, f"{name}/{inside}")
    # a dictionary as large as all of it
    return lzma.compress(content.getvalue(), filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 2**27}])


def unpack(name: str, data: Path) -> None:
    """One of them, with its landing files, which were written again meanwhile."""
    with tarfile.open(LEFT_BEHIND) as files:
        for member in files.getmembers():
            folder, _, member.name = member.name.partition("/")
            if folder == name:
                files.extract(member, data, filter="data")
    land_old_events(data / "landing")


if __name__ == "__main__":
    LEFT_BEHIND.write_bytes(pack())
