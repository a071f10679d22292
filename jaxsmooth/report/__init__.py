"""Certificates for people: plain text, HTML, plots; and for machines: JSON.

Nothing here proves anything, and nothing here knows how a certificate came about. What
needs more than NumPy imports it when it is used.
"""
