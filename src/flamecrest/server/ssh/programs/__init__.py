"""Programs that the gateway runs in the login node's perl."""
