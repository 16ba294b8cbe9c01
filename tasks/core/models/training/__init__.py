"""Recipe that trains the bundled demo models on data it makes itself: `python -m tasks.core.models.training all`."""
