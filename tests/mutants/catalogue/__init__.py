"""The mutants, one file a room."""
