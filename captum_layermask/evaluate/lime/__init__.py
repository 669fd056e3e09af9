"""Experiment: are the explanations of LIME better (§4.4 of the paper)?"""
