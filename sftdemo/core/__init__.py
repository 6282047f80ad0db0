"""What all other folders use: settings, events, errors, files, processes. Imports none of them."""
