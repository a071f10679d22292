"""Small functions that jaxsmooth and other tools that bound programs are given, side by side."""
