"""Formats of tables on disk: AnnData in zarr, Parquet and CSV."""
