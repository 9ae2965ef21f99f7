"""The bridge: what devices say by MQTT is stored, and what they are to know is told to them."""
