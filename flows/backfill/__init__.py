"""A backfill: what is to do, flow runs in flight, counts and the report."""
