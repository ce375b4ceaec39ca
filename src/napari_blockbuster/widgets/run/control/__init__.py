"""Control of a job that is open in a viewer: its steps, their threads and their events."""
