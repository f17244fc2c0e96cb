"""What the program knows, for people and programs to read."""
