"""Picture of the demo: image, labels of the tiles and merged labels, in a plane and from the side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Lattice", "draw"]

BACKGROUND, INK, SEAM = "#0d1117", "#e6edf3", "#ffd866"
PALETTE = ("#4cc9f0", "#f72585", "#80ed99", "#ffb703", "#b388ff", "#ff7b54", "#2ec4b6", "#ff99c8", "#a7c957", "#5e8bff")
BAR_MICROMETERS = 10


class Lattice(NamedTuple):
    """Shape of a tile in voxels, and size of a voxel in micrometers, along z, y and x."""

    tile: tuple[int, int, int]
    spacing: tuple[float, float, float]


def draw(
    path: Path,
    pixels: np.ndarray,
    cut: np.ndarray,
    merged: np.ndarray,
    lattice: Lattice,
) -> None:
    """Draw a (z, y, x) image with its labels before and after the merge.

    Parameters
    ----------
    path : Path
        PNG file.
    pixels : numpy.ndarray
        Image.
    cut, merged : numpy.ndarray of int
        Labels of the tiles, none joined, and merged labels.
    lattice : Lattice
        Tiles and voxel size.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tile, spacing = lattice
    z, y = _busiest_plane(merged, tile), tile[1] // 2
    depth = pixels.shape[0] * spacing[0] / (pixels.shape[1] * spacing[1])
    figure = Figure(figsize=(12.6, 4.2 * (1 + depth) + 0.85), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2, 3, height_ratios=(1, depth), wspace=0.03, hspace=0.03, left=0.012, right=0.988, bottom=0.045, top=0.915
    )
    colors = _colors(cut)
    paints = [None, colors[cut], _inherit(colors, cut, merged)[merged]]
    parts, whole = (len(np.unique(labels)) - 1 for labels in (cut, merged))
    titles = ["image, tiles dashed", f"segmented tile by tile: {parts} pieces", f"merged: {whole} objects"]
    for column, (title, paint, labels) in enumerate(zip(titles, paints, (None, cut, merged), strict=True)):
        plane, side = (figure.add_subplot(grid[row, column]) for row in (0, 1))
        plane.set_title(title, color=INK, fontsize=13, pad=7)
        for axes, at, rows, columns in ((plane, np.s_[z], 1, 2), (side, np.s_[:, y], 0, 2)):
            aspect = spacing[rows] / spacing[columns]
            colored = None if paint is None or labels is None else (paint[at], labels[at])
            _show(axes, pixels[at], colored, aspect, _window(pixels))
            _seams(axes, tile[rows], tile[columns], strong=column < 2)
        if column == 0:
            _scale_bar(plane, BAR_MICROMETERS, spacing[2])
            _note(plane, f"plane z = {z}")
            _note(side, f"side view, y = {y}")
    figure.savefig(path, dpi=100, facecolor=BACKGROUND)


def _busiest_plane(labels: np.ndarray, tile: tuple[int, ...]) -> int:
    """Return the plane with the most labeled voxels, at least two planes away from a seam."""
    area = (labels > 0).sum(axis=(1, 2)).astype(float)
    area[np.arange(len(area)) % tile[0] < 2] = 0
    return int(area.argmax())


def _window(pixels: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(pixels, (2, 99.6))
    return float(low), float(high)


def _show(
    axes: Axes,
    pixels: np.ndarray,
    colored: tuple[np.ndarray, np.ndarray] | None,
    aspect: float,
    window: tuple[float, float],
) -> None:
    gray = np.clip((pixels - window[0]) / (window[1] - window[0]), 0, 1) ** 0.75
    picture = np.repeat(gray[..., None], 3, axis=-1)
    if colored is not None:
        paint, labels = colored
        inside = (labels > 0)[..., None]
        # The image's texture stays visible through the color, and outlines stand out.
        picture = np.where(inside, paint * (0.38 + 0.62 * picture), picture * 0.8)
        picture[_outlines(labels)] = paint[_outlines(labels)]
    axes.imshow(picture, interpolation="nearest", aspect=aspect)
    axes.set_axis_off()


def _outlines(labels: np.ndarray) -> np.ndarray:
    """Return the voxels of objects that have a neighbor outside the object."""
    edge = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        before, after = (np.take(labels, range(a, labels.shape[axis] + a - 1), axis) for a in (0, 1))
        differs = before != after
        for start in (0, 1):
            index = [slice(None)] * labels.ndim
            index[axis] = slice(start, labels.shape[axis] + start - 1)
            edge[tuple(index)] |= differs
    inner: np.ndarray = edge & (labels > 0)
    return inner


def _seams(axes: Axes, rows: int, columns: int, *, strong: bool) -> None:
    style: dict[str, Any] = {"color": SEAM, "linewidth": 1.3 if strong else 0.8, "alpha": 0.95 if strong else 0.45}
    height, width = axes.get_images()[0].get_size()
    for edge in range(rows, height, rows):
        axes.axhline(edge - 0.5, linestyle=(0, (5, 4)), **style)
    for edge in range(columns, width, columns):
        axes.axvline(edge - 0.5, linestyle=(0, (5, 4)), **style)


def _scale_bar(axes: Axes, length: float, spacing: float) -> None:
    from matplotlib.patches import Rectangle

    height, width = axes.get_images()[0].get_size()
    stop, row = width * 0.955, height * 0.955
    start, pad = stop - length / spacing, width * 0.022
    # A dark background keeps the bar readable on a bright nucleus.
    corner, extent = (start - pad, row - height * 0.085), (stop - start + 2 * pad, height * 0.105)
    axes.add_patch(Rectangle(corner, *extent, facecolor=BACKGROUND, alpha=0.8, linewidth=0))
    axes.plot([start, stop], [row, row], color="white", linewidth=3.5, solid_capstyle="butt")
    axes.text((start + stop) / 2, row - height * 0.018, f"{length} µm", color="white", ha="center", va="bottom")


def _note(axes: Axes, text: str, ground: float = 0.8) -> None:
    box = {"facecolor": BACKGROUND, "alpha": ground, "linewidth": 0, "pad": 3.5}
    axes.annotate(
        text,
        (0, 1),
        (9, -8),
        "axes fraction",
        "offset points",
        color="white",
        ha="left",
        va="top",
        fontsize=9.5,
        bbox=box,
    )


# -------------------------------------------------------------------------------------------------------------- colors
def _colors(labels: np.ndarray) -> np.ndarray:
    """Choose a color for each label, other than those of its neighbors: float (labels + 1, 3), background black."""
    from matplotlib.colors import to_rgb
    from scipy import ndimage

    n = int(labels.max())
    palette = np.array([to_rgb(color) for color in PALETTE])
    centers = np.array(ndimage.center_of_mass(labels > 0, labels, np.arange(1, n + 1))).reshape(-1, labels.ndim)
    chosen = np.zeros(n, int)
    for label in range(n):
        distance = np.linalg.norm(centers[:label] - centers[label], axis=1)
        # Prefer the color whose nearest use is farthest away.
        free = [distance[chosen[:label] == color].min(initial=np.inf) for color in range(len(palette))]
        chosen[label] = int(np.argmax(np.array(free)))
    return np.concatenate([np.zeros((1, 3)), palette[chosen]])


def _inherit(colors: np.ndarray, cut: np.ndarray, merged: np.ndarray) -> np.ndarray:
    """Give each merged object the color of its largest piece."""
    inside = merged > 0
    pairs, sizes = np.unique(np.stack([merged[inside], cut[inside]]).astype(np.int64), axis=1, return_counts=True)
    table = np.zeros((int(merged.max()) + 1, 3))
    order = np.argsort(sizes, kind="stable")
    table[pairs[0, order]] = colors[pairs[1, order]]
    return table
