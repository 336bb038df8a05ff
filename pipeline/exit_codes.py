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
DATA = 65
"""There is not enough of what was given, such as history to train on."""
MEMORY = 71
"""The memory that it may take was not enough."""
TEMPORARY = 75
"""It was interrupted, or another does the same just now; starting it again goes on."""
