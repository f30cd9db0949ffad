"""Overlap, intervals and calibration; imports nothing else of the package."""
