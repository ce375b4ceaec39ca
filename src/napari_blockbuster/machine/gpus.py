"""CUDA devices, as ``nvidia-smi`` lists them. Imports no network library."""

from __future__ import annotations

import csv
import os
import subprocess

__all__ = ["gpu_table", "visible_devices", "visible_gpus"]


def gpu_table(*columns: str) -> list[list[str]]:
    """Return columns of ``nvidia-smi --query-gpu``, one row for each GPU; no rows where there is no driver."""
    try:
        listing = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(columns)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = csv.reader(listing.stdout.splitlines(), skipinitialspace=True)
    return [[entry.strip() for entry in row] for row in rows if len(row) == len(columns)]


def visible_devices() -> list[str] | None:
    """Return the entries of ``CUDA_VISIBLE_DEVICES``, or None if it is not set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if given is None else [entry.strip() for entry in given.split(",") if entry.strip()]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as entries for ``CUDA_VISIBLE_DEVICES``."""
    given = visible_devices()
    if given is not None:
        return [entry for entry in given if entry != "-1"]
    return [uuid for (uuid,) in gpu_table("uuid") if uuid]
