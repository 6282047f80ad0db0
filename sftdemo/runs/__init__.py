"""Complete jobs as generators of events, and the folders they write."""
