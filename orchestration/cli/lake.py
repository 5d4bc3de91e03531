"""`headroom lake`: who writes the lake in a bucket, and which files of accounts are held."""

from enum import StrEnum
from typing import Annotated

import typer

from orchestration.cli.configuration import load_settings
from orchestration.cli.console import console, fail
from orchestration.lake import account_copies
from orchestration.lake.account_files import ACCOUNTS_FILES
from orchestration.lake.bucket import LakeBucketError
from orchestration.lake.lake import Lake
from orchestration.usage.formatting import counted

lake_app = typer.Typer(help="Claim the lake in a bucket; accept a held accounts file.", no_args_is_help=True)


class FileName(StrEnum):
    """The files of accounts."""

    ACCOUNTS = "accounts"
    SUBJECTS = "subjects"
    CUSTOMERS = "customers"


@lake_app.command("claim")
def claim_lake() -> None:
    """Make this data folder the only writer of the lake in the bucket. Stop the previous one first."""
    config = load_settings()
    lake = Lake(config.lake, config.lake_url)
    if lake.bucket is None:
        fail("HEADROOM_LAKE_URL is not set. The lake is in this data folder, and only this folder writes it")
    try:
        before = lake.bucket.claim()
    except LakeBucketError as error:
        fail(str(error))
    console.print(f"This folder ({config.lake}) is now the writer of {lake.bucket.url}.", soft_wrap=True)
    if before:
        console.print(f"{before} was the writer before; `headroom run` stops there. Continue here with `headroom run`.")


@lake_app.command("accept")
def accept_file(
    name: Annotated[FileName, typer.Argument(help="the file to accept")],
    yes: Annotated[bool, typer.Option("--yes", help="accept without asking")] = False,
) -> None:
    """Accept a file that lost rows or columns, as it is now. The next run takes it."""
    config = load_settings()
    lake = Lake(config.lake)
    [kind] = [kind for kind in ACCOUNTS_FILES if kind.name == name]
    _, path = config.accounts_file(name)
    before = lake.accounts_copy(kind)
    try:
        reading, after = account_copies.judge(kind, before, path, config.now())
    except ValueError as error:
        fail(f"{error}. Headroom accepted nothing")
    if reading is not None or after.held is None:
        fail(f"{path} is not held. The next run takes it")
    if not after.held.is_acceptable:
        fail(f"{after.held.reason} No run can take this file as it is: repair {path}")
    console.print(f"{path}: {after.held.reason}", soft_wrap=True)
    count = account_copies.count_rows(kind, path)
    console.print(f"In use: {counted(len(before.good.rows), 'row')}. In the file: {count:,}.", soft_wrap=True)
    if not yes and not typer.confirm("Accept the file as it is?"):
        fail(f"{path} is still held")
    with lake.locked():
        account_copies.accept(lake.root, kind, after.held.fingerprint)
    console.print("The next run takes the file, unless it changes first.")
