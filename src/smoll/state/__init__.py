"""What smoll remembers on disk: where files lie, who holds the project, what every run did."""
