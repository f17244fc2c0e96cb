"""The CNI plugin: a program of its own. Standard library only; it starts once for every pod."""
