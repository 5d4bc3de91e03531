"""dagster-dbt's few modules without the rest, which is still there for who imports it."""

import json
import subprocess
import sys

SCRIPT = """
import json, sys
from orchestration.defs import dagster_dbt_alone, transform
loaded = [name for name in ("dagster_dbt", "dbt", "sqlglot", "dagster_dbt.cloud", "dbt.version") if name in sys.modules]
import dagster_dbt
same = [getattr(dagster_dbt, name) is getattr(dagster_dbt_alone, name) for name in dagster_dbt_alone.__all__[:3]]
print(json.dumps([loaded, same, "dagster_dbt.cloud" in sys.modules]))
"""


def test_only_what_assets_need_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == [[], [True, True, True], True]
