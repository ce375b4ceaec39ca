"""Actions of the merge section's buttons: merge again, write, delete the tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_blockbuster.output.tiff_export import TIFF_SUFFIXES, tiff_beside
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.run.merge_section import MergeSection
from napari_blockbuster.widgets.run.tiff_saving import save_tiff

__all__ = ["MergeActions"]


class MergeActions:
    """Connects the merge section to a `RunControl`.

    Parameters
    ----------
    section : MergeSection
    control : RunControl
    parent : QWidget
        Parent of the dialogs.
    """

    def __init__(self, section: MergeSection, control: RunControl, parent: QWidget) -> None:
        self._section, self._control, self._parent = section, control, parent
        section.changed.connect(self.merge)
        control.ranges_wanted.connect(self._keep)
        self._job = control.job
        control.changed.connect(self._forget_ranges)
        section.write_wanted.connect(self.write)
        section.delete_wanted.connect(self.delete_stage)
        section.export_wanted.connect(self.ask_export)

    def _keep(self, ranges: Any) -> None:
        """Leave out the objects outside ranges of columns, or undo that."""
        columns = self._section.filter.columns
        if ranges is None:
            columns.undo()
        else:
            columns.keep(ranges)

    def _forget_ranges(self) -> None:
        """Keep all objects of another job."""
        if self._control.job is not self._job:
            self._job = self._control.job
            self._section.filter.columns.reset()

    def merge(self) -> None:
        """Merge with the settings of the section."""
        if self._control.job is not None and self._control.state in ("paused", "staged", "merging", "written"):
            self._control.merge(self._section.choice())

    def write(self) -> None:
        """Write the merged labels. Ask before labels that this job wrote earlier are replaced."""
        job = self._control.job
        if job is None:
            return
        overwrite = False
        if Path(job.spec.output).exists():
            overwrite = self._ask(f"{job.spec.output} exists. Replace it with the current merged labels?")
            if not overwrite:
                return
        self._control.write(overwrite)

    def ask_export(self) -> None:
        """Ask for a path, and save the written labels there as TIFF."""
        labels = self._control.written_path
        if labels is None:
            return
        wished, kinds = str(tiff_beside(labels)), "OME-TIFF (*.ome.tif *.ome.tiff);;TIFF (*.tif *.tiff)"
        chosen, _ = QFileDialog.getSaveFileName(self._parent, "Save labels as TIFF", wished, kinds)
        if chosen:
            # The dialog has asked before a file is replaced.
            path = chosen if chosen.lower().endswith(TIFF_SUFFIXES) else f"{chosen}.ome.tif"
            save_tiff(labels, path, self._control)

    def delete_stage(self) -> None:
        """Delete the tiles of the job, after a question."""
        if self._ask(
            "Delete the intermediate tiles? The written labels are kept, but you can no longer merge them differently."
        ):
            self._control.delete_stage()

    def _ask(self, question: str) -> bool:
        return bool(QMessageBox.question(self._parent, "Blockbuster", question) == QMessageBox.Yes)
