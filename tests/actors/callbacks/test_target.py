"""Where a callback may go."""

import ipaddress

import pytest

from callboard.actors.callbacks.target import Target, parse_url, refusal


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("https", "example.com", 443, "/")),
        ("https://Example.com.:8443/a?b=c#d", Target("https", "example.com", 8443, "/a?b=c")),
        ("https://[2606:4700::1111]/", Target("https", "2606:4700::1111", 443, "/")),
    ],
)
def test_a_url_is_taken_apart(url, target):
    assert parse_url(url, ()) == target


def test_the_authority_names_a_port_that_is_not_the_usual_one():
    assert parse_url("https://example.com:443/", ()).authority == "example.com"
    assert parse_url("https://[2606:4700::1111]:8443/", ()).authority == "[2606:4700::1111]:8443"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "expected a URL"),
        ("https://" + "a" * 2000, "expected a URL"),
        ("https://münchen.de/", "printable ASCII"),
        ("https://example.com/\r\nHost: x", "printable ASCII"),
        ("https://example.com/a b", "no spaces"),
        ("https://example.com\\@127.0.0.1/", "backslashes"),
        ("ftp://example.com/", "expected https"),
        ("https:///path", "expected https"),
        ("example.com", "expected https"),
        ("https://example.com:99999/", "no URL"),
        ("https://[::1/", "no URL"),
        ("https://user:secret@example.com/", "user name"),
        ("https://example.com@127.0.0.1/", "user name"),
        ("http://example.com/", "http is readable"),
        ("https://127.0.0.1/", "loopback"),
        ("https://169.254.169.254/latest/meta-data", "link-local"),
        ("https://[::ffff:10.0.0.1]/", "public Internet"),
    ],
)
def test_a_url_that_may_not_be_called_is_refused_with_the_reason(url, why):
    with pytest.raises(ValueError, match=why):
        parse_url(url, ())


def test_a_trusted_host_may_be_private_and_without_tls():
    assert parse_url("http://127.0.0.1:8000/done", ("127.0.0.1",)) == Target("http", "127.0.0.1", 8000, "/done")
    with pytest.raises(ValueError, match="http is readable"):
        parse_url("http://127.0.0.2:8000/done", ("127.0.0.1",))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "100.100.100.200", "168.63.129.16", "224.0.0.1", "255.255.255.255", "192.0.2.1"),
        *("198.18.0.1", "::", "::1", "fe80::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1"),
    ],
)
def test_an_address_that_is_not_public_is_refused(address):
    assert refusal(ipaddress.ip_address(address)) is not None


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_a_public_address_is_not(address):
    assert refusal(ipaddress.ip_address(address)) is None
