"""What a Dask worker imports, keeps and calls."""
