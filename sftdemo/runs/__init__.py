"""Whole jobs as generators of events, and the folders that they leave."""
