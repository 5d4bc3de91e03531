"""What a dbt needs that somebody starts by hand, in any folder of a clone in which perhaps nothing ran yet.

A job passes its settings to dbt; by hand dbt knows the environment alone, and neither `.env` nor what a path is
relative to. `dbt_project/__init__.py` calls this.
"""

from typing import cast

import click
from dbt_common.context import get_invocation_context
from pydantic import ValidationError

from orchestration import settings
from orchestration.lake.lake import Lake


def prepare() -> None:
    """Give dbt the settings of the jobs, and make an empty lake where there is none yet.

    :raises ValueError: a setting is not usable; the message names it.
    """
    try:
        config = settings.load()
    except ValidationError as error:
        raise ValueError("; ".join(problem["msg"] for problem in error.errors())) from None
    # dbt has copied the environment when it started
    cast(dict[str, str], get_invocation_context().env).update(
        HEADROOM_DATA=str(config.data),
        HEADROOM_TIMEZONE=config.timezone,
        HEADROOM_BILL_SAMPLED=str(config.bill_sampled),
    )
    if not (config.lake / "batches").exists():
        with Lake(config.lake).locked():
            pass  # which makes it
    context = click.get_current_context(silent=True)
    profile = context.obj.get("profile") if context and context.obj else None
    if profile and profile.credentials.type == "duckdb":  # its path was decided before
        profile.credentials.path = str(config.warehouse)
