"""Experiments on sequences: what is measured, and the callbacks that act on a training."""
