"""How many replicas a centre needs: what one request and one connection cost, and a simulation that uses it."""
