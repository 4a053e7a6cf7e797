"""Counts the programs that a function is compiled for."""

import functools


def counted(function, traces):
    """Returns the function; a list gets an entry each time that it is traced for a new program.

    The size of a jitted function's cache says less: the caches of a long process share their room.
    """

    @functools.wraps(function)
    def traced(*args, **kwargs):
        traces.append(function)
        return function(*args, **kwargs)

    return traced
