"""Fakes, twins and fixtures of the tests; the program never imports from here."""
