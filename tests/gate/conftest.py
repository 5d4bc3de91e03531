"""Fixtures for the gate: a Redis for all tests of a module, empty for each."""

from collections.abc import Iterator

import pytest

from tests.fakes import redis as servers


@pytest.fixture(scope="package")
def redis_server() -> Iterator[servers.Redis]:
    with servers.running() as server:
        yield server


@pytest.fixture
def redis(redis_server: servers.Redis) -> servers.Redis:
    redis_server.client.flushall()
    redis_server.client.config_resetstat()
    return redis_server
