"""The published code's networks and checkpoints."""
