"""Charts of one analysis each, from its tables; what they share is in `memlight.figures`. No torch."""
