"""What a cell, a table and a record are, and the files of all of them. Imports nothing of ours and no torch."""

from results.cell import Cell, Part
from results.record import FileError, Record, Records, Workspace
from results.table import Table, read_table

__all__ = ["Cell", "FileError", "Part", "Record", "Records", "Table", "Workspace", "read_table"]
