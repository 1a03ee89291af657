"""What may be done: one function for each use case. It gets the transaction and the time; it never commits, retries, sleeps or logs."""
