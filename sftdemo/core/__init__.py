"""What everything stands on: settings, events, errors, files, processes. Imports nothing of the other folders."""
