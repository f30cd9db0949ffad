"""Masks of named classes from what annotation tools write, one module per format; `find` recognises the format."""
