"""The order: an aggregate. Whatever is true of every order is enforced here and nowhere else.

    placed ──> paid ──> cancelled
       ├─────> failed
       └─────> cancelled

No database, no HTTP, no clock: rules can be read, and tested, by themselves.
"""
from dataclasses import dataclass

MOVES = {("placed", "paid"), ("placed", "failed"), ("placed", "cancelled"), ("paid", "cancelled")}
MOST_OF_ONE = 100
CENTS_PER_POINT = 100


class Refused(Exception):
    """This would break a rule of the order."""


@dataclass(frozen=True)
class Line:
    product: str
    name: str
    quantity: int
    unit_cents: int  # the price when it was ordered: later changes don't touch it

    def __post_init__(self):
        # `type` and not `isinstance`: True is an int to Python, but not to a customer.
        if type(self.quantity) is not int or not 0 < self.quantity <= MOST_OF_ONE:
            raise Refused(f"a quantity is a whole number from 1 to {MOST_OF_ONE}")
        if type(self.unit_cents) is not int or self.unit_cents < 0:
            raise Refused("a price is a whole number of cents")  # never a float: 0.1 + 0.2

    @property
    def total_cents(self):
        return self.quantity * self.unit_cents


@dataclass
class Order:
    id: str
    user: str
    lines: list
    state: str = "placed"
    failure: str = ""  # why it failed, for the customer

    def __post_init__(self):
        if not self.lines:
            raise Refused("an order has at least one line")
        if len({line.product for line in self.lines}) < len(self.lines):
            raise Refused("a product has one line: change its quantity instead")
        if self.total_cents == 0:
            raise Refused("an order costs something")

    @property
    def total_cents(self):
        """Computed, never stored beside the lines: two truths would part one day."""
        return sum(line.total_cents for line in self.lines)

    @property
    def points(self):
        return self.total_cents // CENTS_PER_POINT

    def move(self, state, failure=""):
        if (self.state, state) not in MOVES:
            raise Refused(f"an order that is {self.state} cannot become {state}")
        self.state, self.failure = state, failure
