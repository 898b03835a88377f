"""Several runs side by side: settings, headline numbers, groups, one page. No torch."""
