"""What people open when an alert makes them ask why: the JSON API, and the pages on top of the same answers."""
