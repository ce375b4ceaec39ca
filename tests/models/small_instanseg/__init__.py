"""An InstanSeg network of a tenth of a megabyte, so that tests run the real InstanSeg without a download."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).with_name("instanseg.pt")
"""For one channel, and bright objects of about 24 pixels; it says that its pixels are half a micrometre wide."""
