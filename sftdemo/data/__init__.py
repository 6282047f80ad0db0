"""From a file or pasted text to examples, and from an example to its prompt."""
