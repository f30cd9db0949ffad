"""Named trainings, and tables of many of them."""
