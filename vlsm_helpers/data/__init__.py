"""Images, masks, prompts: from files on disk to tensors."""
