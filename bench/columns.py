"""The contenders by their keys, which are the columns of every table, and their titles."""

from __future__ import annotations

GATEWAY = "flamecrest"
OTHER = "other"  # the gateway of another checkout
OPENSSH = "openssh"  # a new connection for every command
OPENSSH_OPEN = "openssh-open"  # over a connection that is open already

TITLES = {
    "a": "(a) new connection per command, one at a time",
    "b": "(b) new connection per request",
    "c": "(c) command over a pooled connection",
    GATEWAY: "Flamecrest",
    OTHER: "Flamecrest, other checkout",
    "0": "(0) no SSH: the limit",
    OPENSSH: "OpenSSH, new connection",
    OPENSSH_OPEN: "OpenSSH, open connection",
}
