"""The page of one run, and the pages of several."""
