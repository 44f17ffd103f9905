"""One file per command: options become a request, its results are printed or stored."""
