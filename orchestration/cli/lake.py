"""`headroom lake`: who writes the lake in a bucket, and which files of accounts are held."""

from enum import StrEnum
from typing import Annotated

import typer

from orchestration import settings
from orchestration.cli.console import console, fail
from orchestration.lake import account_copies
from orchestration.lake.account_files import ACCOUNTS_FILES
from orchestration.lake.bucket import LakeBucketError
from orchestration.lake.lake import Lake
from orchestration.usage.formatting import counted

lake_app = typer.Typer(help="The lake in a bucket (HEADROOM_LAKE_URL), and its copies of files.", no_args_is_help=True)


class FileName(StrEnum):
    """The files of accounts."""

    ACCOUNTS = "accounts"
    SUBJECTS = "subjects"
    CUSTOMERS = "customers"


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


@lake_app.command("accept")
def accept_file(
    name: Annotated[FileName, typer.Argument(help="which file")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Have the next run take a file that is held because it lost rows or columns, exactly as it is now."""
    config = settings.load()
    lake = Lake(config.lake)
    [kind] = [kind for kind in ACCOUNTS_FILES if kind.name == name]
    _, path = config.accounts_file(name)
    before = lake.accounts_copy(kind)
    try:
        reading, after = account_copies.judge(kind, before, path, config.now())
    except ValueError as error:
        fail(f"{error}. Nothing was accepted")
    if reading is not None or after.held is None:
        fail(f"{path} is not held: the next run takes it")
    if not after.held.is_acceptable:
        fail(f"{after.held.reason} There is nothing to accept: repair {path}")
    console.print(f"{path}: {after.held.reason}", soft_wrap=True)
    count = account_copies.count_rows(kind, path)
    console.print(f"In use: {counted(len(before.good.rows), 'row')}. In the file: {count:,}.", soft_wrap=True)
    if not yes and not typer.confirm("Take the file as it is?"):
        fail(f"{path} stays held")
    with lake.locked():
        account_copies.accept(lake.root, kind, after.held.fingerprint)
    console.print("The next run takes it, unless the file changes before.")
