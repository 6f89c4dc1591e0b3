"""Small pure things everything else stands on: no I/O, no clock."""
