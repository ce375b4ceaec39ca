"""Opened TIFF files: their series, also where pages lie in other files or the OME-XML is damaged."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree

from napari_blockbuster.images.base import ImageReadError
from napari_blockbuster.images.places import is_remote

__all__ = ["OpenTiff", "check_complete", "files_of_image", "open_tiff"]


class OpenTiff:
    """A TIFF file, its series, and its OME-XML.

    Attributes
    ----------
    file : tifffile.TiffFile
    series : list of tifffile.TiffPageSeries
    images : list of ElementTree.Element or None
        For each series, its ``Image`` in the OME-XML; None where there is none.
    damage : str
        Why the OME-XML cannot be used; empty if it can, or if there is none.
    """

    def __init__(self, path: str, file: Any, xml: str | None, damage: str = "") -> None:
        self.path, self.file, self.damage = path, file, damage
        self.series = list(file.series)
        self.images: list[Any] = [None] * len(self.series)
        if xml and not damage:
            self._match(xml)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.file.close()

    def holds(self, series: Any) -> bool:
        """Whether pixels of a series are in this very file."""
        return series.kind != "ome" or any(page is not None and page.parent is self.file for page in series)

    def _match(self, xml: str) -> None:
        try:
            images = ElementTree.fromstring(xml).findall("./{*}Image")
        except ElementTree.ParseError as error:
            self.damage = f"its OME-XML is damaged ({error})"
            return
        if not all(series.kind == "ome" for series in self.series):
            # The pages do not fit the OME-XML: tifffile took them as they are. Sizes of a single image still hold.
            if len(images) == len(self.series) == 1 and _fits(images[0], self.series[0]):
                self.images = images
            else:
                self.damage = "its OME-XML does not describe its pages"
            return
        # In order, but without the images that have no pages here.
        start = 0
        for i, series in enumerate(self.series):
            able = [k for k in range(start, len(images)) if _fits(images[k], series)]
            if not able:
                continue
            found = able[0]
            if len(able) > 1:
                # A file that was renamed is not among the names, and belongs to the first image that it can be.
                found = next((k for k in able if _names_a_file_of(images[k], series)), found)
            self.images[i], start = images[found], found + 1


def open_tiff(path: str) -> OpenTiff:
    """Open a TIFF file; what its OME-XML says is used as far as it is sound.

    Raises
    ------
    ImageReadError
        If it cannot be read as TIFF.
    """
    try:
        with _quiet:
            return _opened(path)
    except Exception as error:
        raise ImageReadError(f"{path} cannot be read as TIFF ({str(error)[:300]})") from error


def _opened(path: str) -> OpenTiff:
    import tifffile

    file = tifffile.TiffFile(path)
    xml = file.ome_metadata if file.is_ome else None
    damage = ""
    if xml is None and "<OME" in (file.pages.first.description or "")[:4000]:
        damage = "its OME-XML is cut off"
    holder = _holder(xml) if xml else None
    if holder:
        other = Path(path).parent / holder
        if other.is_file():
            file.close()
            xml = _xml_of(other)
            file = tifffile.TiffFile(path, omexml=xml)
        else:
            damage = f"its OME-XML is in a file that is missing, {holder}"
    try:
        if not file.series:
            raise ValueError("no pages that belong together")
    except Exception as error:
        file.close()
        if xml is None:
            raise
        file = tifffile.TiffFile(path, is_ome=False)
        damage = f"its OME-XML is damaged ({str(error)[:200] or type(error).__name__})"
    return OpenTiff(path, file, xml, damage)


def _holder(xml: str) -> str | None:
    """Name of the file that holds the OME-XML of this one, for a file without its own."""
    try:
        binary = ElementTree.fromstring(xml).find("./{*}BinaryOnly")
    except ElementTree.ParseError:
        return None
    return binary.get("MetadataFile") if binary is not None else None


def _xml_of(path: Path) -> str | None:
    if path.suffix.lower() in (".ome", ".xml"):
        return path.read_text(encoding="utf-8")
    import tifffile

    with tifffile.TiffFile(path) as file:
        metadata: str | None = file.ome_metadata
        return metadata


class _Quiet:
    """Silence tifffile's log: what it finds wrong is an error or a warning of ours, or of no consequence."""

    def __init__(self) -> None:
        self._lock, self._depth, self._level = threading.Lock(), 0, logging.NOTSET

    def __enter__(self) -> None:
        with self._lock:
            log = logging.getLogger("tifffile")
            if not self._depth:
                self._level = log.level
            self._depth += 1
            log.setLevel(logging.CRITICAL)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                logging.getLogger("tifffile").setLevel(self._level)


_quiet = _Quiet()


# ------------------------------------------------------------------------------------------------- files of one image
def check_complete(tiff: OpenTiff, index: int) -> None:
    """Refuse an image of which pages are missing: blank planes would be segmented as if they had been imaged.

    Raises
    ------
    ImageReadError
        Naming the missing files.
    """
    if tiff.series[index].kind != "ome":
        # Only OME-XML names pages that may not be there; others are made of the pages that are.
        return
    pages = list(tiff.series[index])
    blank = [i for i, page in enumerate(pages) if page is None]
    if not blank:
        return
    image = tiff.images[index]
    folder = Path(tiff.path).parent
    missing = sorted(n for n in _file_names(image) if not (folder / n).exists()) if image is not None else []
    if missing:
        names = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        reason = f"in files that are missing: {names}. Bring them back into {folder}"
    else:
        reason = "not there, though its OME-XML names them: the file was cut off or edited"
    raise ImageReadError(f"{tiff.path}: {len(blank)} of {len(pages)} planes are {reason}")


def _file_names(image: Any) -> list[str]:
    names = {uuid.get("FileName", "") for uuid in image.findall("./{*}Pixels/{*}TiffData/{*}UUID")}
    return sorted(names - {""})


def _fits(image: Any, series: Any) -> bool:
    """Whether a series can be this image of the OME-XML, by name and extent."""
    pixels = image.find("./{*}Pixels")
    if pixels is None or (series.kind == "ome" and (image.get("Name") or "") != (series.name or "")):
        return False
    extents = dict(zip(series.axes, series.shape, strict=True))
    return all(str(extents.get(axis, 1)) == pixels.get(f"Size{axis}") for axis in "XY")


def _names_a_file_of(image: Any, series: Any) -> bool:
    names = {name.lower() for name in _file_names(image)}
    if not names:
        return True
    parents = {Path(page.parent.filehandle.path).name.lower() for page in series if page is not None}
    return bool(parents & names)


def files_of_image(path: str) -> set[str]:
    """Paths of all files that hold planes of the images in an OME-TIFF; empty for anything else.

    Reads the first page only, as folders may hold thousands of files.
    """
    if not path.lower().endswith((".tif", ".tiff")) or is_remote(path):
        return set()
    try:
        with _quiet:
            import tifffile

            with tifffile.TiffFile(path) as file:
                xml = file.ome_metadata if file.is_ome else None
        holder = _holder(xml) if xml else None
        if holder:
            xml = _xml_of(Path(path).parent / holder)
        images = ElementTree.fromstring(xml).findall("./{*}Image") if xml else []
    except Exception:
        # Opening it says what is wrong.
        return set()
    own = Path(path).name
    names = {name for image in images if own in (found := _file_names(image)) for name in found}
    return {str(Path(path).parent / name) for name in names}
