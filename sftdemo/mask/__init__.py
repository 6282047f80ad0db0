"""The mask: from an example to input_ids and labels, and every view and check of them. `labels.py` decides."""
