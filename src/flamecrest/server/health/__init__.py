"""Health of the services behind the gateway: probe results, and the guard that refuses requests to what is down."""
