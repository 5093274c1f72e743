"""Who executes jobs. A worker holds models and turns a batch of small job records into results."""
