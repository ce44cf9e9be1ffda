"""The gateway: HTTP in, SSH and schedulers out."""
