"""Commands that ask a running daemon: status, peers, routes."""
