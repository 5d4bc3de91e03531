"""What HEADROOM_CLICKHOUSE_URL says, for Headroom and for dbt. Servers are in the tests of what is done there."""

import pytest
from pydantic import SecretStr

from orchestration.warehouse.clickhouse.client import Address, ClickHouse, ClickHouseError, environment


def test_address_is_read_from_the_url() -> None:
    address = Address.of(SecretStr("https://us%40er:p%2Fw%3A%25@click.example.com/headroom?cluster=main"))
    assert address == Address("click.example.com", 8443, "us@er", "p/w:%", "headroom", "main", is_secure=True)
    assert "p/w" not in repr(address)
    assert Address.of(SecretStr("http://host/db")) == Address("host", 8123, "default", "", "db", "", is_secure=False)


def test_dbt_gets_the_same_address() -> None:
    assert environment(SecretStr("http://u:p%40@host:9123/db?cluster=main")) == {
        "HEADROOM_WAREHOUSE": "clickhouse",
        "HEADROOM_CLICKHOUSE_HOST": "host",
        "HEADROOM_CLICKHOUSE_PORT": "9123",
        "HEADROOM_CLICKHOUSE_SECURE": "False",
        "HEADROOM_CLICKHOUSE_USER": "u",
        "HEADROOM_CLICKHOUSE_PASSWORD": "p@",
        "HEADROOM_CLICKHOUSE_DATABASE": "db",
        "HEADROOM_CLICKHOUSE_CLUSTER": "main",
    }


def test_server_that_is_away_is_named_with_what_to_do() -> None:
    server = ClickHouse(SecretStr("http://u:p@127.0.0.1:9/database"))
    with pytest.raises(
        ClickHouseError, match=r"127.0.0.1:9 does not answer \(.*refused\): start it, or correct HEADROOM"
    ):
        server.ask("select 1")
