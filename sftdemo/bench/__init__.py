"""Measures what the program costs: `python -m sftdemo bench`. Ratios of one run, never a figure by itself."""
