"""A daemon follows another one without losing a packet: descriptors, routes and counts pass over.

    systemd    udpoverlayd ─ its store: TUN, UDP socket ─► the next one, at once    (bridge.py)
               └─ a file: tunnel, routes, counts ────────►                          (keeper.py)
    --replace  the old one ─ admin socket ───────────────► the new one, once it is able
                             (offer.py)                    (predecessor.py)

What waits in the TUN's queue and in the socket's buffer meanwhile is carried by the next one.

Owns: both ways, and what happens when the new one fails. Must not know: registries; how packets
move.
"""
