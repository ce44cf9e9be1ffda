"""The contenders by their keys, which are the columns of every table, and their titles."""

from __future__ import annotations

GATEWAY = "flamecrest"
OTHER = "other"  # the gateway of another checkout
OPENSSH = "openssh"  # a new connection for every command
OPENSSH_OPEN = "openssh-open"  # over a connection that is open already
REST = "rest"  # this checkout's gateway, which asks slurmrestd
CURL = "curl"  # curl alone, without a mover job
UNSHARED = "unshared"  # this checkout's gateway, whose requests share no answers

TITLES = {
    "a": "(a) new connection per command, one at a time",
    "b": "(b) new connection per request",
    "c": "(c) command over a pooled connection",
    GATEWAY: "Flamecrest",
    OTHER: "Flamecrest, other checkout",
    REST: "Flamecrest, by slurmrestd",
    UNSHARED: "Flamecrest, without shared reads",
    "0": "(0) no SSH: the limit",
    OPENSSH: "OpenSSH, new connection",
    OPENSSH_OPEN: "OpenSSH, open connection",
    CURL: "curl",
}
