"""dbt by hand has the settings of the jobs, `.env` included: dbt loads this package as a plugin, by its name.

It does so in the environment of the clone, in which `make` installs the project. A job passes its settings itself.
"""

import sys

from dbt.plugins.manager import dbtPlugin


class SettingsPlugin(dbtPlugin):
    """Prepares what `orchestration/warehouse/dbt_by_hand.py` says, before dbt parses and connects."""

    def initialize(self) -> None:
        if self.project_name == "headroom" and "orchestration.warehouse.dbt" not in sys.modules:
            from orchestration.warehouse import dbt_by_hand

            dbt_by_hand.prepare()


plugins = [SettingsPlugin]
