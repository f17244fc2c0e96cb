"""The packet trace: which packets, what is shown of them, capture files. Pure."""
