"""One training loop, its recipes, and the cache of frozen features."""
