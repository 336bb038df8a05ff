"""The daemon: one loop that polls, decodes, screens, windows, predicts, scores, alerts and commits."""
