"""The settings as a command loads them. What they are is in settings.py, what is wrong with them in failures.py."""

from orchestration import settings
from orchestration.cli.console import print_error
from orchestration.settings import Settings


def load_settings() -> Settings:
    """The settings, exported for dbt and Dagster. A variable that has no effect is named on stderr."""
    config = settings.load()
    config.export()
    for variable in settings.unread():
        print_error(str(variable))
    return config
