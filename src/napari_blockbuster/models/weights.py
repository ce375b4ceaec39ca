"""One download of a file: with a progress bar, and in place only when it is complete."""

from __future__ import annotations

import os
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

__all__ = ["download"]

BLOCK = 2**20


def download(url: str, path: Path, what: str) -> None:
    """Download into a file beside, and rename it when it is complete.

    Parameters
    ----------
    url : str
    path : Path
        Where the file shall be; folders are made.
    what : str
        Its name beside the progress bar.

    Raises
    ------
    OSError
        If it cannot be had or written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            _fetch(url, file, what)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def _fetch(url: str, file: Any, what: str) -> None:
    from tqdm import tqdm

    with urllib.request.urlopen(url, timeout=60) as response:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        with tqdm(total=total, unit="B", unit_scale=True, desc=what) as bar:
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
            if total is not None and bar.n != total:
                raise OSError(f"the connection broke after {bar.n} of {total} bytes")
