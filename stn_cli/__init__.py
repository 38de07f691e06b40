"""The ``stn`` command: the one package that knows the library, the service and the client."""
