"""Experiment: more and more segments are removed (§4.1 of the paper)."""
