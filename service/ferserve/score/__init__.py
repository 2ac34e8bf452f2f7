"""``ferserve score``: many images, in files or in Parquet, on Ray Data; extra ``cluster``."""
