"""Reads examples from files and text, and renders their prompts."""
