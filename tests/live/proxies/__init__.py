"""Replicas of the gateway behind the proxies of deploy/proxies."""
