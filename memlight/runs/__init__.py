"""A run or a released encoder opened for analysis, and where its results are logged."""
