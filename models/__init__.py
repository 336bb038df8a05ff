"""Pure mathematics: forecasters, witnesses, calibration, training. No clock, no threads, no network."""
