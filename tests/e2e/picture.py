"""The picture of the digest in the README: `python -m tests.e2e.picture .readme/digest.png`.

The demo on a fixed morning, before a loopback Slack that knows the owners, previewed in a real browser.
"""

import csv
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.browser import open_browser
from tests.e2e.program import Program
from tests.fakes.slack import FakeSlack

DAY = "2026-11-20"
HEIGHT = 920


def main(target: Path) -> None:
    with TemporaryDirectory() as folder, FakeSlack() as slack, open_browser() as browser:
        program = Program(Path(folder), {"HEADROOM_NOW": f"{DAY}T08:00:00Z"})
        program.with_slack(slack)
        program.run("generate")
        with (program.data / "accounts.csv").open(newline="") as file:
            owners = {row["owner"] for row in csv.DictReader(file)}
        slack.users = {owner: f"U{number}" for number, owner in enumerate(sorted(owners))}
        program.run("run")
        program.run("digest", "--preview", "--redraw")  # sent, it would show the hour of this machine
        browser.open(program.data / "preview" / f"digest-{DAY}.html", height=HEIGHT)
        browser.picture(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
