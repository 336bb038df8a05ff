"""Exit codes, after sysexits.h, so that whoever restarts the process knows whether restarting can help."""

OK = 0
USAGE = 64
"""The command line is wrong."""
UNAVAILABLE = 69
"""Something outside could not be reached in time; starting again later may help."""
SOFTWARE = 70
"""A defect of ours."""
CONFIG = 78
"""The config is wrong; a person has to change it."""
