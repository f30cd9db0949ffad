"""Procedural images that look the part."""
