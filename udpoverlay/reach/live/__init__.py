"""The sockets and the clock of reach/; see udpoverlay/reach/."""
