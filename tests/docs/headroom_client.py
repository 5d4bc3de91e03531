"""`headroom` in the shell of a tutorial: it asks the test for a fork, which starts without importing anything.

Servers have a process of their own, which the shell can end. Run with Python's -S and -E, and imports little, or each
command would take a tenth of a second more.
"""

import json
import os
import socket
import sys

SERVERS = (["pages"], ["collect"], ["ui"])

if sys.argv[1:] in SERVERS:
    os.execv(sys.executable, [sys.executable, "-m", "orchestration.cli.main", *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(os.environ["TUTORIAL_SOCKET"])
    request = {"arguments": sys.argv[1:], "environment": {**os.environ}, "folder": os.environ["PWD"]}
    with connection.makefile("rw") as channel:
        print(json.dumps(request), file=channel, flush=True)
        answer = json.loads(channel.readline())
sys.stdout.write(answer["stdout"])
sys.stdout.flush()
sys.stderr.write(answer["stderr"])
sys.exit(answer["status"])
