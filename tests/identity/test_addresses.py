"""The list of addresses: everybody when it is empty, this machine always, nobody else."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.identity.addresses import is_allowed

V4 = st.ip_addresses(v=4).map(str)
ANY = st.one_of(V4, st.ip_addresses(v=6).map(str))


@given(ANY)
def test_an_empty_list_admits_everybody(address: str) -> None:
    assert is_allowed([], address)


@given(V4, st.integers(8, 32), V4)
def test_only_what_lies_in_the_network_is_admitted(base: str, prefix: int, address: str) -> None:
    network = ipaddress.ip_network(f"{base}/{prefix}", strict=False)
    found = ipaddress.ip_address(address)
    assert is_allowed([str(network)], address) is (found in network or found.is_loopback)


@given(V4)
def test_an_ipv4_address_in_ipv6_clothes_is_the_same(address: str) -> None:
    assert is_allowed([f"{address}/32"], f"::ffff:{address}")


@given(st.lists(ANY, max_size=5))
def test_this_machine_always_may(networks: list[str]) -> None:
    assert is_allowed(networks, "127.0.0.1")
    assert is_allowed(networks, "::1")


@given(st.text(max_size=30))
def test_what_is_no_address_is_admitted_nowhere(text: str) -> None:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        assert not is_allowed(["0.0.0.0/0", "::/0"], text)


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        (["192.168.1.0/24"], "192.168.1.7", True),
        (["192.168.1.0/24"], "192.168.2.7", False),
        (["192.168.1.5"], "192.168.1.5", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["2001:db8::/32"], "2001:db8::5", True),
        (["2001:db8::/32"], "192.168.1.7", False),
        (["10.0.0.0/8", "2001:db8::/32"], "10.1.2.3", True),
    ],
)
def test_networks_of_both_kinds(networks: list[str], address: str, allowed: bool) -> None:
    assert is_allowed(networks, address) is allowed
