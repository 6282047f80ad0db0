"""Turn examples into input_ids and labels; show and check the result. `labels.py` decides what is trained."""
