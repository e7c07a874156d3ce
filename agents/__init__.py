"""The agents: profiles, routing, the loop and its checks."""
