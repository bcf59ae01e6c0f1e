"""What a user asks for, whole: audio in, result out."""
