"""The lake's Parquet as tables of ClickHouse: what the models read there as `lake.X`."""

from tests.clickhouse import CLUSTER, Node

TIME = "DateTime64(6, 'UTC')"
EVENT = f"source String, event_id String, event_name String, account_id String, event_at {TIME}, ingested_at {TIME}"
COLUMNS = {
    "raw_events": f"""{EVENT}, sample_weight Int64, endpoint Nullable(String), status Nullable(Int32),
        properties Nullable(String), landed_file Nullable(String), line_number Nullable(Int64), batch Int64,
        event_date Date""",
    "raw_other_events": f"""{EVENT}, quota Nullable(Int64), properties Nullable(String), landed_file Nullable(String),
        line_number Nullable(Int64), batch Int64""",
    "rejected_lines": f"""landed_file Nullable(String), origin Nullable(String), line_number Nullable(Int64),
        item Nullable(Int64), reason Nullable(String), line Nullable(String), arrived_at Nullable({TIME}),
        rejected_at Nullable({TIME}), generation Nullable(Int64)""",
    "raw_accounts": """account_id String, name Nullable(String), owner Nullable(String), csm Nullable(String),
        contact_email Nullable(String), segment Nullable(String), plan Nullable(String), mrr Nullable(Decimal(18, 2)),
        renewal_on Nullable(Date32), stripe_customer_id Nullable(String), is_trial Nullable(Bool),
        is_internal Nullable(Bool), is_test Nullable(Bool), snoozed_until Nullable(Date32),
        period_kind Nullable(String), period_anchor Nullable(Date32), period_ends_on Nullable(Date32)""",
    "raw_subjects": f"""subject String, account_id String, valid_from Nullable({TIME}), valid_until Nullable({TIME})""",
    "raw_customers": f"""account_id String, stripe_customer_id Nullable(String), valid_from Nullable({TIME}),
        valid_until Nullable({TIME})""",
    "raw_meter_reports": f"""stripe_customer_id String, hour_start {TIME}, revision Int32, units Int64,
        value Nullable(Int64), identifier Nullable(String), state String, created_at Nullable({TIME}),
        attempts Nullable(Int32), first_attempt_at Nullable({TIME}), finished_at Nullable({TIME}),
        error Nullable(String), stripe_units Nullable(Int64), checked_at Nullable({TIME}), hour_date Date""",
}
FILES = {
    "raw_events": ["batches/*/calls/*/*.parquet"],
    "raw_other_events": ["batches/*/others.parquet"],
    "rejected_lines": [
        *("batches/*/rejected.parquet", "accounts_rejected.parquet"),
        *("subjects_rejected.parquet", "customers_rejected.parquet"),
    ],
    "raw_accounts": ["accounts.parquet"],
    "raw_subjects": ["subjects.parquet"],
    "raw_customers": ["customers.parquet"],
    "raw_meter_reports": ["meter_reports/*/*.parquet"],
}


def load(nodes: list[Node], database: str = "default", folder: str = "lake") -> None:
    """Everything anew, from the lake in that folder of the nodes' user files."""
    for node in nodes:
        node.query(f"create database if not exists {database}")
        node.query("drop table if exists raw_events_shard", database)
        node.query(
            f"""create table raw_events_shard ({COLUMNS["raw_events"]}) engine = MergeTree
                partition by toYYYYMM(event_date) order by (event_date, account_id, event_at)""",
            database,
        )
    first = nodes[0]
    first.query("drop table if exists loaded_batches", database)
    first.query(
        "create table loaded_batches (batch Int64, fingerprint String) engine = MergeTree order by batch", database
    )
    first.query(
        f"""insert into loaded_batches select extract(_path, '([0-9]+)/manifest'), lower(hex(MD5(raw_blob)))
            from file('{folder}/batches/*/manifest.json', RawBLOB)""",
        database,
    )
    for table, columns in COLUMNS.items():
        first.query(f"drop table if exists {table}", database)
        engine = "MergeTree order by tuple()"
        if table == "raw_events":
            engine = f"Distributed({CLUSTER}, {database}, raw_events_shard, cityHash64(account_id))"
        first.query(f"create table {table} ({columns}) engine = {engine}", database)
        for files in FILES[table]:
            first.query(
                f"""insert into {table} select * from file('{folder}/{files}', Parquet, $${columns}$$)
                    settings distributed_foreground_insert = 1, use_hive_partitioning = 1""",
                database,
            )
