"""Live media: packets of a camera become time-stamped windows on disk, by stream copy; what is missing has a row.

`camera.py` is one process per camera; everything else is values in, values out. Nothing here knows a store or Prefect.
"""
