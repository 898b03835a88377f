"""Two encoders that somebody else trained, made a run directory that every analysis opens."""
