"""Random programs on random sets, and attacks on what is certified about them.

`choices` draws (from a seed or from hypothesis), `steps` are the building blocks of
programs, `regions` the sets, `programs` puts them together, `attack` looks for points that
contradict the certificate. Only `programs` and `attack` call the library, and only through
its public API: a mistake in the library's own sets or norms cannot hide itself here.
"""
