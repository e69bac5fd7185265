"""What a person looks at afterwards: the record, figures, scripts for ChimeraX."""
