"""Attempts to steer an agent by what it reads, with a model that obeys every word of it.

`run` plants each text, reads it through the real tools, has the scripted model do whatever the
text tells it, and looks at what was lost: files, rows, secrets, other machines, memories, routes.
So it is the platform that holds or not; no model's good sense is counted on. Each attempt is made
a second time with every guard lifted, which shows that the model would have done it.
"""

from ryzanstein.agents.bench.injection.attempts import ATTEMPTS, Attempt
from ryzanstein.agents.bench.injection.suite import run
from ryzanstein.agents.bench.injection.verdicts import Verdict

__all__ = ["ATTEMPTS", "Attempt", "Verdict", "run"]
