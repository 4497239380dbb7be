"""Values of options."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.cli.command import byte_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", 100),
        ("100B", 100),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("512MiB", 512 * 2**20),
        ("512mib", 512 * 2**20),
        (" 1.5 GiB ", 3 * 2**29),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert byte_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "0", "0MiB", "-5MiB", "1e3MiB", "5 elephants", "5M", "5MiBs", "٣MiB", "0.1B"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a number of bytes with a unit of B, KB, KiB, MB, MiB"):
        byte_size(text)


@given(st.integers(min_value=1, max_value=2**50))
def test_plain_bytes(size: int) -> None:
    assert byte_size(str(size)) == size
