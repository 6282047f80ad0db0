"""The parts of the page, each with its components and its handlers."""
