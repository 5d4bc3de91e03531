"""Where a request comes from. What a proxy says of it counts only where that proxy is trusted."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import Request

Network = IPv4Network | IPv6Network


def is_trusted(request: Request, trusted: Sequence[Network]) -> bool:
    """Whether the program that connected is a proxy of these networks."""
    peer = _parsed(request.client.host) if request.client else None
    return peer is not None and _is_in(peer, trusted)


def client(request: Request, trusted: Sequence[Network]) -> str:
    """The address of the visitor: the last hop that is not a trusted proxy. An IPv6 address by its network of /64."""
    peer = _parsed(request.client.host) if request.client else None
    hops = [hop for value in request.headers.getlist("x-forwarded-for") for hop in value.split(",")]
    while peer is not None and _is_in(peer, trusted) and hops:
        before = _parsed(hops.pop())
        if before is None:
            break
        peer = before
    if isinstance(peer, IPv6Address):
        return str(ip_network((peer, 64), strict=False))
    return str(peer or "")


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Some proxies name the port, too: 192.0.2.1:4711, [2001:db8::1]:4711."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
