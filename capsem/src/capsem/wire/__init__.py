"""Every sentence between processes, as pure codecs. No I/O."""
