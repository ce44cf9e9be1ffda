"""Reads of a scheduler that requests share: questions asked once, answers kept for a moment, ended jobs remembered."""
