"""Transfers of every method as things that can be listed, shown, cancelled and retried; synchronizations, copies."""
