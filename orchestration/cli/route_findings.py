"""What each route lacks, in a sentence with its remedy: for `headroom routes check` and `headroom doctor`."""

from collections.abc import Iterator

from orchestration.channels import vendors
from orchestration.defs.sending import opened, secret_of, variable
from orchestration.ledger.outbox import RefusedError
from orchestration.messages import routes
from orchestration.messages.routes import Route, RoutesError
from orchestration.messages.vendor import Checked
from orchestration.settings import Settings
from orchestration.usage.findings import Finding


def examine(config: Settings) -> Iterator[Finding]:
    """A finding for each mistake of the file, or for what each of its routes needs. Asks the vendors; sends nothing."""
    try:
        found = routes.read(config.routes_file, vendors.vendor)
    except RoutesError as error:
        for problem in error.problems:
            yield Finding("routes", problem)
        return
    for route in found:
        if not route.is_built_in:
            yield from _of(route, config)


def _of(route: Route, config: Settings) -> Iterator[Finding]:
    vendor, secret, subject = vendors.vendor(route.channel), secret_of(route, config), f"route {route.name}"
    missing = [(variable(route.name, name), what) for name, what in vendor.secrets.items() if not secret(name)]
    for name, what in missing:
        yield Finding(subject, f"{name} is not set: {what}")
    if missing:
        return
    try:
        channel = opened(route, config)
        findings = channel.check() if isinstance(channel, Checked) else []
    except (ValueError, RefusedError) as error:
        yield Finding(subject, str(error))
        return
    for finding in findings:
        yield Finding(f"{subject}: {finding.subject}", finding.problem, finding.is_needed)
    if not any(finding.problem for finding in findings):
        yield Finding(f"{subject}: {vendor.title}")
