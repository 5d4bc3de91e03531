"""dagster-dbt without dbt, which runs in a process of its own (`warehouse/dbt.py`).

Imported as usual it imports all of dbt, for types and to select nodes: two seconds in every process of Dagster. Where
dbt is not installed it has types of the same names, and takes all nodes of a manifest.
"""

import sys

is_hidden = "dbt.version" not in sys.modules
if is_hidden:
    sys.modules["dbt.version"] = None  # type: ignore[assignment]  # to import it fails

from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets  # noqa: E402
from dagster_dbt.asset_utils import get_asset_check_key_for_test  # noqa: E402

if is_hidden:
    del sys.modules["dbt.version"]

__all__ = ["DagsterDbtTranslator", "DagsterDbtTranslatorSettings", "dbt_assets", "get_asset_check_key_for_test"]
