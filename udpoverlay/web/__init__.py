"""The live page of `udpoverlay web`: what daemons know and do, in a browser.

    daemons' admin sockets ─► hosts.py ─► overview.py, way.py ─► server.py ─► page/ in the browser
                              asks         documents             token, HTTP    draws

Owns: the page, its server, what it asks of daemons. Must not know: where the daemons run, how the
command was called.
"""
