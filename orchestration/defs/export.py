"""The pages as files, after the copy that they are made of was published."""

import time

import dagster as dg

from orchestration.defs.resources import OWNERS, Project
from orchestration.pages.export import export
from orchestration.pages.export_folder import ExportError
from orchestration.warehouse.published_copy import NothingPublishedError


@dg.asset(
    deps=["published_copy"],
    group_name="publish",
    owners=OWNERS,
    kinds={"html"},
    op_tags={"dagster/priority": "-1"},  # the digest and the reports do not wait for it
    description=(
        "Writes the pages of colleagues as files to the folder HEADROOM_PAGES_EXPORT, for a bucket behind a login. It"
        " replaces the whole folder in one step. No customer's page and no key is among them.\n\n"
        "If it fails, the message says what to do, and the files of the run before stay. Nothing else waits for it, and"
        " it may run again as often as you like."
    ),
)
def pages_export(project: Project) -> dg.MaterializeResult[None]:
    settings, started = project.settings, time.perf_counter()
    if settings.pages_export is None:
        raise dg.Failure("HEADROOM_PAGES_EXPORT is not set any longer: restart Dagster", allow_retries=False)
    try:
        done = export(settings, settings.pages_export)
    except (ExportError, NothingPublishedError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(done.folder)),
            "files": done.files,
            "accounts": done.accounts,
            "accounts_in_all": done.accounts_in_all,
            "digests": done.digests,
            "seconds": round(time.perf_counter() - started, 1),
        },
    )
