"""What a cell, a table and a record are, and the files of all of them. Imports nothing of ours and no torch."""

from unlearnable_bench.results.cell import Cell, Part
from unlearnable_bench.results.grid import Grid, read_grid
from unlearnable_bench.results.record import FileError, Record, Records, Workspace
from unlearnable_bench.results.table_file import TableFile, read_table

__all__ = ["Cell", "FileError", "Grid", "Part", "Record", "Records", "TableFile", "Workspace", "read_grid", "read_table"]
