"""The logical connections: subclasses of the drivers' own, without a socket."""
