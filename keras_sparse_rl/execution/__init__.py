"""Sparse execution: only the weights in use are stored and multiplied."""
