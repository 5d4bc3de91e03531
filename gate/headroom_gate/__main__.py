"""`python -m headroom_gate < key`: the subject of an API key, for subjects.csv. The key comes from standard input."""

import sys

from headroom_gate.identify import subject_of_key

print(subject_of_key(sys.stdin.readline().strip()))  # noqa: T201
