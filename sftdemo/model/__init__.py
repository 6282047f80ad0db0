"""Find and load models, and let them predict: answers and log-probabilities."""
