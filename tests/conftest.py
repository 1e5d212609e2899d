"""Every test of the course is run with the course's own pytest plugin."""

pytest_plugins = ("checkpoints.pytest_plugin",)
