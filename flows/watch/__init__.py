"""The watcher: events of a bucket become analyses, warm and once each; a sweep finds what no event told of."""
