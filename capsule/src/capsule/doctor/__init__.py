"""What this host lets a sandbox enforce: measured by doing it, judged by a pure function."""
