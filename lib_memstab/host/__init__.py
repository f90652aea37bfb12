"""The one room that knows a WebUI: its hooks drive the core, its files and pages carry what the core found."""
