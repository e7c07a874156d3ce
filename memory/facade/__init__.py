"""The store's methods, by subject; MemoryStore in store.py is all of them."""
