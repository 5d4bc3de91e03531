"""HTTP in: takes usage events from the clients that people already run, and acknowledges only what is durable."""
