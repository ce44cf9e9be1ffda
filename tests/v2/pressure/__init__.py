"""More requests than there is room for: a login node with few channels, a gateway with little memory."""
