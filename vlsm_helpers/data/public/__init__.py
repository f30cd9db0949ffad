"""Public datasets: fetching their archives and converting them to the layout on disk."""
