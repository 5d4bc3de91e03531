"""The pictures of two pages in the README: `python -m tests.e2e.pages_picture .readme`.

The demo on a fixed morning, opened by a colleague's link in a real browser.
"""

import re
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.browser import open_browser
from tests.e2e.program import Program, finish

DAY = "2026-11-20"
ACCOUNT = "juniper-mobility"
"""At its quota, with a call to make."""
ENDS = {"utilization": "#accounts tbody tr:nth-child(5)", "account": ".legend"}
"""The last element of each picture."""
MARGIN = 8


def main(folder: Path) -> None:
    with TemporaryDirectory() as data, open_browser() as browser:
        program = Program(Path(data), {"HEADROOM_NOW": f"{DAY}T08:00:00Z", "HEADROOM_PAGES_PORT": "0"})
        program.run("generate")
        program.run("run")
        link = program.ask("pages", "grant", "CS team").stdout.split()[0].rpartition("/")[2]
        process = program.start("pages")
        try:
            assert process.stdout
            address = re.search(r"http://[\d.:]+", process.stdout.readline())
            assert address
            pages = {"utilization": f"/k/{link}", "account": f"/accounts/{ACCOUNT}"}
            for name, path in pages.items():
                browser.open(f"{address[0]}{path}")
                end = browser.value(f"document.querySelector('{ENDS[name]}').getBoundingClientRect().bottom")
                browser.show(height=round(end) + MARGIN)
                browser.picture(folder / f"pages-{name}.png")
        finally:
            process.send_signal(signal.SIGTERM)
            finish(process)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
