"""What Wireshark is given: an extcap program and a dissector, both files of their own.

Owns: `extcap.py`, which runs on a host that has no other part of ours (standard library alone), and
`udpoverlay.lua`. Must not know: the rest of the package.
"""
