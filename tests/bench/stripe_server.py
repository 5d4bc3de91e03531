"""`python -m tests.bench.stripe_server CUSTOMERS`: a loopback Stripe until standard input ends; prints its address."""

import sys

from tests.bench.stripe_run import customer
from tests.fakes.stripe import FakeStripe

if __name__ == "__main__":
    with FakeStripe() as stripe:
        stripe.add_meter("api-calls", "hour")
        for number in range(int(sys.argv[1])):
            stripe.add_customer(customer(number))
        sys.stdout.write(f"{stripe.url}\n")
        sys.stdout.flush()
        sys.stdin.read()
