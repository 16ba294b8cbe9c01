"""What cameras saw over a stretch of time: visits, speech, scenes, gaps and cost, by camera, class and local hour.

`tally.py` adds up windows, visits, alerts and gaps as they are given; `rows.py` is what it comes to, `tables.py` writes
that as CSV and Parquet, `page.py` as one HTML page.
"""
