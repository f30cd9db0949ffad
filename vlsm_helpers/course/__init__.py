"""Running, reporting and checking the notebooks, and the predictions and networks that they start from."""
