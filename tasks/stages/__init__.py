"""The tasks of a media: each resolves references, calls core, stores files and returns a reference."""
