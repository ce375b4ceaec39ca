"""Images in zarr stores."""
