"""What knows Prefect and Dask from inside: servers, clusters, the task runner, and who is let in."""
