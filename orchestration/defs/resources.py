"""What assets work with. The resource has no fields, so that no setting, and no secret, shows in Dagster's UI."""

from datetime import UTC, datetime

import dagster as dg

from orchestration import settings
from orchestration.channels import slack
from orchestration.channels.preview import PreviewChannel
from orchestration.delivery.ledger import Ledger
from orchestration.delivery.outbox import Channel
from orchestration.settings import Settings
from orchestration.storage.dbt import DbtProject
from orchestration.storage.lake import Lake
from orchestration.storage.places import Places

OWNERS = ["team:data"]


class Project(dg.ConfigurableResource):  # type: ignore[type-arg]
    """This clone and its data folder, as the environment configures them."""

    @property
    def settings(self) -> Settings:
        return settings.load()

    def lake(self) -> Lake:
        config = self.settings
        return Lake(config.lake, config.lake_url)

    def landing(self) -> Places:
        """Where events arrive: the landing folder, and a bucket where one is set."""
        return Places(self.settings.landing, self.settings.landing_url)

    def dbt(self) -> DbtProject:
        config = self.settings
        config.export()
        return DbtProject(*config.dbt_places)

    def ledger(self) -> Ledger:
        return Ledger(self.settings.ledger_url)

    def slack(self) -> Channel:
        """Slack where a token is set, else a preview.

        :raises ValueError: a token without a channel.
        """
        return slack.configured(self.settings) or PreviewChannel("Slack")


def clock() -> datetime:
    """The real time, for attempts; never the fixed one of a replay."""
    return datetime.now(UTC)
