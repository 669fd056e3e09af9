"""Experiment: does the shape of what is removed leak the class (§4.3 of the paper)?"""
