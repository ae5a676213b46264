"""One module per database engine: what is only true of that server and its driver."""
