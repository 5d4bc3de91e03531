"""What a user would pick instead: dlt, ClickHouse in process, plain dbt, each doing what ours does.

Every contender is one process that loads the same NDJSON file, counts each event once by its uuid, keeps malformed
lines out, rolls up per account and UTC day, and prints the accounts with the most calls of the month. Their answers
are compared with what is in the file; who counts something else is named. Ours validates every line, keeps the refused
ones with their reasons and syncs what it wrote, which is asked of nobody else.

The other tools are installed into environments in the folder of the benchmark, by uv and from its cache.
"""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tests.bench import others_clickhouse, others_dbt, others_dlt, others_headroom
from tests.bench.measure import BIN, Row, Run, python, run, write_events
from tests.bench.others_answer import answer_file

EVENTS = 1_000_000
SCALED_EVENTS = (10_000, 100_000)
"""For what takes minutes: the seconds that each further event costs, between these two, give those of all."""
ROUNDS = 3
