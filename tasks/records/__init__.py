"""What the store knows of media: artifacts, results, sources, leases, views."""
