"""The host's side of a machine: files, sockets, QEMU."""
