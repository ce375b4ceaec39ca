"""Quantities as text."""

from __future__ import annotations

import pytest

from napari_blockbuster.machine.units import bytes_text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (262_144, "262.1 kB"),
        (3.2e9, "3.2 GB"),
        (2.5e15, "2500.0 TB"),
    ],
)
def test_bytes_have_a_unit_of_a_thousand(n_bytes: float, text: str) -> None:
    assert bytes_text(n_bytes) == text
