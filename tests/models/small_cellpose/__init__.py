"""A network of a quarter of a megabyte that takes CPSAM's place, so that tests run the real Cellpose without a download."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights.pt")
