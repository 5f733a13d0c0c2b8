"""Whether what clients saw can have happened one thing at a time.

`linearizable` looks for an order of the operations on one register that explains every answer and lets nothing take
effect before it was asked for or after it was answered (the search of Wing and Gong, with Lowe's memory of what was
tried). `anomalies` looks at transactions that append to lists and read them: since every element is written once, a
list tells in which order it was written, and so which transaction has to come before which; a circle of those, with
the order of real time, is what no order of transactions explains (the idea of Elle).

An operation of which the client does not know whether it was done has the answer `UNKNOWN` and no end: it may take
effect at any time after it began, or never.
"""

import math
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = object()

# So many states tried, and the search gives up: a history that is too concurrent to judge is a fault of the test.
MOST_STATES = 2_000_000


@dataclass
class Operation:
    """What a client asked for, when, and what it was told."""

    name: str
    argument: Any
    answer: Any
    began: int
    ended: float = math.inf

    def __str__(self):
        answer = "?" if self.answer is UNKNOWN else self.answer
        return f"{self.name}({self.argument}) -> {answer} [{self.began}, {self.ended}]"


def step(state, operation):
    """The register after the operation, if the answer fits; it holds a number or nothing."""
    name, argument, answer = operation.name, operation.argument, operation.answer
    known = answer is not UNKNOWN
    if name == "read":
        return (not known or answer == state), state
    if name == "write":
        return True, argument
    if name == "add":
        new = (state or 0) + argument
        return (not known or answer == new), new
    if name == "swap":
        old, new = argument
        done = state == old
        return (not known or answer == done), new if done else state
    if name == "create":
        done = state is None
        return (not known or answer == done), argument if done else state
    if name == "delete":
        return (not known or answer == state), None
    raise ValueError(name)


@dataclass
class Event:
    """The begin or the end of an operation, in a list from which both can be taken and put back."""

    number: int
    is_end: bool
    before: "Event" = field(default=None, repr=False)
    after: "Event" = field(default=None, repr=False)


def linearizable(operations, state=None):
    """Whether some order of the operations explains their answers."""
    # Reads of which nothing is known say nothing.
    operations = [o for o in operations if not (o.name == "read" and o.answer is UNKNOWN)]
    moments = []
    for number, operation in enumerate(operations):
        moments.append((operation.began, 0, number))
        if operation.answer is not UNKNOWN:
            moments.append((operation.ended, 1, number))
    # What begins the moment that another ends is at the same time as it: begins come first.
    head = last = Event(-1, False)
    ends = {}
    begins = {}
    for _, is_end, number in sorted(moments):
        event = Event(number, bool(is_end), before=last)
        last.after = event
        last = event
        (ends if is_end else begins)[number] = event

    def take(event):
        event.before.after = event.after
        if event.after:
            event.after.before = event.before

    def put_back(event):
        event.before.after = event
        if event.after:
            event.after.before = event

    left = len(ends)
    done = 0
    tried = set()
    path = []
    event = head.after
    while left:
        if not event.is_end:
            fits, after = step(state, operations[event.number])
            reached = (done | 1 << event.number, after)
            if fits and reached not in tried:
                tried.add(reached)
                if len(tried) > MOST_STATES:
                    raise RuntimeError("the history is too concurrent to judge")
                path.append((event, state))
                state, done = after, reached[0]
                take(event)
                if end := ends.get(event.number):
                    take(end)
                    left -= 1
                event = head.after
            else:
                event = event.after
        else:
            # An operation has ended that could not be placed: something before it was placed wrong.
            if not path:
                return False
            event, state = path.pop()
            done &= ~(1 << event.number)
            if end := ends.get(event.number):
                put_back(end)
                left += 1
            put_back(event)
            event = event.after
    return True


@dataclass
class Transaction:
    """What a client did at once: `appends` are pairs of list and element, `reads` lists as they were seen."""

    began: int
    ended: float = math.inf
    appends: list = field(default_factory=list)
    reads: dict = field(default_factory=dict)
    # True, False (it was refused), or UNKNOWN.
    done: Any = True

    def __str__(self):
        done = "?" if self.done is UNKNOWN else self.done
        return f"T[{self.began}, {self.ended}] done={done} appends={self.appends} reads={self.reads}"


def anomalies(transactions, final):
    """What is wrong with a history of transactions, as sentences; `final` is what the lists were at the end."""
    wrong = []
    writers = {}
    for transaction in transactions:
        for place in transaction.appends:
            assert place not in writers, f"a test writes each element once: {place}"
            writers[place] = transaction
    for name, elements in final.items():
        if len(set(elements)) < len(elements):
            wrong.append(f"list {name} has an element twice: {elements}")
        for element in elements:
            writer = writers.get((name, element))
            if writer is None:
                wrong.append(f"list {name} has {element}, which nobody wrote")
            elif writer.done is False:
                wrong.append(f"list {name} has {element} of a transaction that was refused: {writer}")
    for transaction in transactions:
        there = [element in final.get(name, []) for name, element in transaction.appends]
        if transaction.done is True and not all(there):
            wrong.append(f"an acknowledged append is lost: {transaction}")
        if any(there) and not all(there):
            wrong.append(f"half of a transaction is there: {transaction}")
        for name, seen in transaction.reads.items():
            if final.get(name, [])[: len(seen)] != seen:
                wrong.append(f"{transaction} saw a list that never was: {name} ended as {final.get(name, [])}")
    return wrong or circles(transactions, final, writers)


def circles(transactions, final, writers):
    """Transactions each of which has to come before the next, and the last before the first."""
    edges = {id(t): [] for t in transactions}
    by_id = {id(t): t for t in transactions}

    def before(one, two, why):
        if one is not two:
            edges[id(one)].append((id(two), why))

    for name, elements in final.items():
        for one, two in zip(elements, elements[1:]):
            before(writers[name, one], writers[name, two], f"its element of {name} is overwritten by")
    for transaction in transactions:
        if transaction.done is not True:
            continue
        for name, seen in transaction.reads.items():
            elements = final.get(name, [])
            if seen:
                before(writers[name, seen[-1]], transaction, f"its element of {name} is seen by")
            if len(seen) < len(elements):
                before(transaction, writers[name, elements[len(seen)]], f"did not see in {name} the element of")
    # Real time, as a chain of moments: what ended before a moment comes before what began after it.
    happened = {id(writers[name, element]) for name, elements in final.items() for element in elements}
    moments = []
    for transaction in transactions:
        if transaction.done is True:
            moments.append((transaction.ended, 1, id(transaction)))
        if transaction.done is True or id(transaction) in happened:
            moments.append((transaction.began, 0, id(transaction)))
    latest = None
    for at, is_end, who in sorted(moments):
        if is_end:
            moment = ("moment", at, who)
            edges[who].append((moment, "ended before"))
            edges[moment] = []
            if latest:
                edges[latest].append((moment, "and"))
            latest = moment
        elif latest:
            edges[latest].append((who, "began"))
    return [describe(circle, edges, by_id) for circle in components(edges)]


def components(edges):
    """The sets of nodes that all reach each other (Tarjan's algorithm, without recursion)."""
    index, low, stack, on_stack, found = {}, {}, [], set(), []
    for root in edges:
        if root in index:
            continue
        work = [(root, iter(edges[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for target, _ in rest:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(edges[target])))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    members = set()
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        members.add(member)
                        if member == node:
                            break
                    if len(members) > 1:
                        found.append(members)
    return found


def describe(members, edges, by_id):
    """A shortest circle through one of them, as text."""
    start = next(member for member in members if member in by_id)
    came_from, queue = {}, [start]
    for node in queue:
        for target, why in edges[node]:
            if target == start:
                steps = [(node, why)]
                while node != start:
                    node, why = came_from[node]
                    steps.append((node, why))
                said = [f"{by_id[n]} {w}" if n in by_id else w for n, w in reversed(steps)]
                return "no order explains: " + " ".join(said) + " the first"
            if target in members and target not in came_from:
                came_from[target] = (node, why)
                queue.append(target)
    raise AssertionError("a component has a circle")
