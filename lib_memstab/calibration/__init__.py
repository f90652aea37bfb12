"""What calibrates a checkpoint, whatever the program around it: what is sampled, kept, told and learned."""
