"""Whole measurements: which splits and encoders, then tables and figures. Commands and callbacks share them."""
