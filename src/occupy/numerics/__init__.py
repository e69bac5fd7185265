"""Arrays in, arrays out: the kernels everything else stands on. No domain type is known here."""
