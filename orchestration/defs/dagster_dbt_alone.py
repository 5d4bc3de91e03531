"""dagster-dbt without dbt, which runs in a process of its own (`warehouse/dbt.py`), and without the rest of itself.

Imported as usual it imports all of dbt, for types and to select nodes: two seconds in every process of Dagster. Where
dbt is not installed it has types of the same names, and takes all nodes of a manifest. Its package imports what it has
for dbt Cloud, for lineage and for `dg`, too: 0.17 s. So its modules are imported without it.
"""

import sys
from importlib.util import find_spec, module_from_spec

is_hidden = "dbt.version" not in sys.modules
is_first = "dagster_dbt" not in sys.modules
if is_hidden:
    sys.modules["dbt.version"] = None  # type: ignore[assignment]  # to import it fails
if is_first:
    package = find_spec("dagster_dbt")
    assert package
    sys.modules["dagster_dbt"] = module_from_spec(package)  # which does not run it

from dagster_dbt.asset_decorator import dbt_assets  # noqa: E402
from dagster_dbt.asset_utils import get_asset_check_key_for_test  # noqa: E402
from dagster_dbt.dagster_dbt_translator import DagsterDbtTranslator, DagsterDbtTranslatorSettings  # noqa: E402

if is_hidden:
    del sys.modules["dbt.version"]
if is_first:
    del sys.modules["dagster_dbt"]

__all__ = ["DagsterDbtTranslator", "DagsterDbtTranslatorSettings", "dbt_assets", "get_asset_check_key_for_test"]
