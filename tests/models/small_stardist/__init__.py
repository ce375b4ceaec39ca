"""StarDist networks of less than half a megabyte, so that tests run the real StarDist without a download."""

from __future__ import annotations

from pathlib import Path

FLAT = Path(__file__).with_name("flat")
"""For 2D images: objects of about 24 pixels."""
VOLUME = Path(__file__).with_name("volume")
"""For stacks whose z steps are twice as long as y and x: objects of about 13 voxels."""
