"""Settings of a cluster: its login nodes, scheduler, health and transfers."""
