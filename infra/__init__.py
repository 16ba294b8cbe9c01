"""Images, clusters and clouds; `infra.scheduler` is the one module that runs in them."""
