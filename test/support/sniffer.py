"""Copies every frame that crosses an interface of its network namespace to standard output; needs root.

    sniffer.py DEVICE      says `sniffing` on standard error once nothing escapes it any more
"""

import socket
import sys

ETH_P_ALL = 3
# Python has no name for it: the size of a buffer, beyond what is allowed to others than root.
SO_RCVBUFFORCE = 33
# As much as the largest frame of an interface with segmentation offload.
FRAME = 1 << 17
# Frames wait here while this program is not scheduled.
BACKLOG = 1 << 24

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BACKLOG)
wire.bind((sys.argv[1], ETH_P_ALL))
print("sniffing", file=sys.stderr, flush=True)
while True:
    sys.stdout.buffer.write(wire.recv(FRAME))
    sys.stdout.buffer.flush()
