"""Hosts in network namespaces on this machine: the proof that the overlay works, and its bench.

hosts.py is the base (a `Host` is an agent process in namespaces of its own, a `Fabric` joins hosts
by a switch); everything that is done inside a host is a named action of its agent (agent.py). The
lab drives `udpoverlayd` as a separate process and knows its flags, files and admin socket only.
Nothing here touches the machine's own network, mounts or /run.
"""
