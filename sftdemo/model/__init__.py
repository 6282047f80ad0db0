"""From a name to a loaded model, and what it predicts: answers and log-probabilities."""
