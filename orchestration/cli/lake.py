"""`headroom lake`: who writes the lake in a bucket."""

import typer

from orchestration import settings
from orchestration.cli.console import console, fail
from orchestration.lake.bucket import LakeBucketError
from orchestration.lake.lake import Lake

lake_app = typer.Typer(help="The lake in a bucket (HEADROOM_LAKE_URL).", no_args_is_help=True)


@lake_app.command("claim")
def claim_lake() -> None:
    """Let this data folder write the lake in the bucket, in place of another one, which must not run any more."""
    config = settings.load()
    lake = Lake(config.lake, config.lake_url)
    if lake.bucket is None:
        fail("HEADROOM_LAKE_URL is not set: the lake is in this data folder alone, and nobody else writes it")
    try:
        before = lake.bucket.claim()
    except LakeBucketError as error:
        fail(str(error))
    console.print(f"{lake.bucket.url} is written by this folder ({config.lake}) from now on.", soft_wrap=True)
    if before:
        console.print(f"Before it was {before}: there `headroom run` stops now. Go on here with `headroom run`.")
