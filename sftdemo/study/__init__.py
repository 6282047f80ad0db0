"""The same training over weights, seeds and sizes; means, spreads and a report."""
