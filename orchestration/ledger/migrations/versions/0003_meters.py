"""Crossings are of a meter, and of thresholds that may be a number of units: named, 80% where it was 80 before.

In the ledgers of the first morning they named neither environment nor quota, but the number of the quota.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.rename_table("announced_crossings", "former_crossings")
    op.create_table(
        "announced_crossings",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("meter", sa.Text, primary_key=True),
        sa.Column("period_start", MOMENT, primary_key=True),
        sa.Column("quota", sa.BigInteger, primary_key=True),
        sa.Column("threshold", sa.Text, primary_key=True),
        sa.Column("crossed_at", MOMENT, nullable=False),
        sa.Column("detected_at", MOMENT, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("delivery_key", sa.Text, sa.ForeignKey("deliveries.key"), nullable=False),
    )
    _complete_the_first_ones()
    op.execute(
        """insert into announced_crossings
           select env, account_id, 'api-calls', period_start, quota, cast(threshold_pct as varchar(11)) || '%',
               crossed_at, detected_at, outcome, delivery_key
           from former_crossings"""
    )
    op.drop_table("former_crossings")


def _complete_the_first_ones() -> None:
    """The key of the delivery names the environment, and the digest that was delivered the quota.

    What neither says was passed over as old, and is again when it is judged again.
    """
    connection = op.get_bind()
    if "env" in {column["name"] for column in sa.inspect(connection).get_columns("former_crossings")}:
        return
    quotas = {}
    for key, payload in connection.execute(sa.text("select key, payload from deliveries")).all():
        digest = (json.loads(payload) if isinstance(payload, str) else payload).get("digest", {})
        for item in digest.get("items", ()):
            quotas[key, item["account_id"]] = int(item["quota"].replace(",", ""))
    crossings = connection.execute(sa.text("select * from former_crossings")).mappings().all()
    known = {
        (each["account_id"], each["period_start"], each["quota_version"]): quota
        for each in crossings
        if (quota := quotas.get((each["delivery_key"], each["account_id"]))) is not None
    }
    op.drop_table("former_crossings")
    former = op.create_table(
        "former_crossings",
        sa.Column("env", sa.Text),
        sa.Column("account_id", sa.Text),
        sa.Column("period_start", sa.Text),
        sa.Column("quota", sa.BigInteger),
        sa.Column("threshold_pct", sa.Integer),
        sa.Column("crossed_at", sa.Text),
        sa.Column("detected_at", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("delivery_key", sa.Text),
    )
    op.bulk_insert(
        former,
        [
            {**each, "env": each["delivery_key"].split("|")[0], "quota": quota}
            for each in crossings
            if (quota := known.get((each["account_id"], each["period_start"], each["quota_version"]))) is not None
        ],
    )
