"""What the program costs, measured by turns with what it is compared with."""
