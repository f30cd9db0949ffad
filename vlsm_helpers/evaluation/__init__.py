"""Stored predictions and their scores."""
