"""The command line: `fabricmgr NOUN VERB`, over the manager's API and nothing else."""
