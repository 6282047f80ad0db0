"""From a name to a loaded model, and what it makes of tokens: answers and log-probabilities."""
