"""Tell which chat templates take no more time and memory than their conversation is long, from how they are written.

A template is a program: it may run on for ever, or write gigabytes. Nearly all templates only go through the messages
and write them down, which can be seen from their syntax; these are rendered at once. All others are rendered in a
process of their own, which can be ended.
"""

# jinja2 does not say what its nodes hold
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

MOST_OWN = 100_000  # characters of a template that is looked at
_LISTS = ("messages", "tools", "documents")
_PLAIN = {
    *("Template", "Output", "TemplateData", "Const", "Name", "NSRef", "Getattr", "Getitem", "Slice", "If", "CondExpr"),
    *("Compare", "Operand", "And", "Or", "Not", "Test", "Add", "Sub", "Concat", "Mod", "Filter", "Call", "Assign"),
    *("For", "Keyword", "List", "Tuple", "Neg", "Break", "Continue"),
}
_FILTERS = {
    *("trim", "length", "count", "string", "upper", "lower", "capitalize", "first", "last", "tojson", "safe"),
    *("default", "d", "list", "selectattr", "rejectattr"),
}
_METHODS = {"strip", "lstrip", "rstrip", "startswith", "endswith", "split", "upper", "lower", "items", "keys", "get"}
_FUNCTIONS = {"raise_exception", "namespace"}
_TESTS = {
    *("defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "true", "false"),
    *("boolean", "eq", "equalto", "in"),
}


@lru_cache(maxsize=64)
def is_bounded(template: str) -> bool:
    """Return whether the work of a chat template grows no faster than the number of messages times their length."""
    import jinja2
    import jinja2.ext

    if len(template) > MOST_OWN:
        return False
    try:
        environment = jinja2.Environment(extensions=[jinja2.ext.loopcontrols])  # only parses
        tree = environment.parse(template)
        return _Reader(tree).is_bounded()
    except (jinja2.TemplateError, RecursionError):
        return False


class _Reader:
    """A template's syntax, with the names that it sets."""

    def __init__(self, tree: Any):
        from jinja2 import nodes

        self._kinds, self._tree = nodes, tree
        self._assigned = list(tree.find_all(nodes.Assign))
        self._loops = list(tree.find_all(nodes.For))
        self._set = {name for each in self._assigned for name in _names(each.target)}
        grown = True
        while grown:  # what a loop goes through may be made of what was set
            made = {name for each in self._loops if self._uses(each.iter) for name in _names(each.target)}
            grown, self._set = not made <= self._set, self._set | made
        self._lists = self._list_names()

    def is_bounded(self) -> bool:
        allowed = all(self._is_plain(node) for node in _all(self._tree))
        return allowed and all(map(self._grows_slowly, self._assigned)) and self._loops_are_bounded(self._tree, None)

    def _uses(self, node: Any) -> int:
        """Return how often a node names what the template has set."""
        return sum(name in self._set for name in _names(node))

    def _list_names(self) -> set[str]:
        """Return the names that stand for messages, or for some of them, wherever they are set."""
        names, targets = set[str](_LISTS), [name for each in self._loops for name in _names(each.target)]
        names |= {each.target.name for each in self._assigned if isinstance(each.target, self._kinds.Name)}
        shrunk = True
        while shrunk:
            wrong = {
                name
                for each in self._assigned
                for name in _names(each.target)
                if not self._is_list(each.node, names) or not isinstance(each.target, self._kinds.Name)
            }
            shrunk, names = bool(names & {*wrong, *targets}), names - {*wrong, *targets}
        return names

    def _is_list(self, node: Any, names: set[str]) -> bool:
        if isinstance(node, self._kinds.Getitem) and isinstance(node.arg, self._kinds.Slice):
            node = node.node
        return isinstance(node, self._kinds.Name) and node.name in names

    def _is_plain(self, node: Any) -> bool:
        kinds = self._kinds
        match type(node).__name__:
            case "Filter":
                own = node.node is not None and not any(
                    each.name == "tojson" for each in node.find_all(kinds.Filter) if node.name == "tojson"
                )
                return node.name in _FILTERS and own and self._has_constants(node)
            case "Call":
                if isinstance(node.node, kinds.Getattr):
                    return node.node.attr in _METHODS and self._has_constants(node)
                return isinstance(node.node, kinds.Name) and node.node.name in _FUNCTIONS and not node.dyn_args
            case "Test":
                return node.name in _TESTS
            case "Mod":
                return self._is_number(node.left) and isinstance(node.right, kinds.Const)
            case "For":
                return not node.recursive
            case "List" | "Tuple":
                return all(isinstance(each, kinds.Const | kinds.Name) for each in node.items) and not self._uses(node)
            case name:
                return name in _PLAIN

    def _has_constants(self, node: Any) -> bool:
        """Return whether the arguments are constants, none of them a large number."""
        values = [*node.args, *(each.value for each in node.kwargs)]
        constant = all(isinstance(each, self._kinds.Const) for each in values)
        small = all(not isinstance(each.value, int) or abs(each.value) <= 16 for each in values if constant)
        return constant and small and node.dyn_args is None and node.dyn_kwargs is None

    def _is_number(self, node: Any) -> bool:
        kinds = self._kinds
        if isinstance(node, kinds.Add | kinds.Sub):
            return self._is_number(node.left) and self._is_number(node.right)
        if isinstance(node, kinds.Const):
            return isinstance(node.value, int)
        if isinstance(node, kinds.Filter):
            return node.name in ("length", "count")
        is_loop = isinstance(node, kinds.Getattr) and isinstance(node.node, kinds.Name) and node.node.name == "loop"
        return is_loop and node.attr in ("index", "index0")

    def _grows_slowly(self, node: Any) -> bool:
        """Return whether what is set is no longer than one thing that was set, and what the messages hold."""
        grows = any(isinstance(each, self._kinds.Add | self._kinds.Concat) for each in _all(node.node))
        encodes = any(isinstance(each, self._kinds.Filter) and each.name == "tojson" for each in _all(node.node))
        return not encodes and (not grows or self._uses(node.node) <= 1)

    def _loops_are_bounded(self, node: Any, inside: set[str] | None) -> bool:
        """Return whether a loop goes through the messages, and a loop in it through a part of its own message, of which
        alone it speaks."""
        for child in node.iter_child_nodes():
            if not isinstance(child, self._kinds.For):
                if not self._loops_are_bounded(child, inside):
                    return False
                continue
            targets = {*_names(child.target)}
            if "loop" in targets or "loop" in self._set:
                return False
            if inside is None:
                if not self._is_list(child.iter, self._lists):
                    return False
            else:
                root = _root(child.iter, self._kinds)
                body = [*child.body, *child.else_, *([child.test] if child.test else [])]
                own = targets | {
                    name for part in body for each in part.find_all(self._kinds.Assign) for name in _names(each.target)
                }
                spoken = {name for part in body for name in _names(part)} - {"loop", *_FUNCTIONS}
                refers = any(isinstance(each, self._kinds.NSRef) for part in body for each in _all(part))
                if root not in inside or not spoken <= own or refers:
                    return False
            if not self._loops_are_bounded(child, targets):
                return False
        return True


def _all(node: Any) -> Iterator[Any]:
    yield node
    for child in node.iter_child_nodes():
        yield from _all(child)


def _names(node: Any) -> list[str]:
    return [each.name for each in _all(node) if type(each).__name__ in ("Name", "NSRef")]


def _root(node: Any, kinds: Any) -> str | None:
    """Return the name whose part a node is, as `message` is that of `message.tool_calls`."""
    while isinstance(node, kinds.Getattr) or (isinstance(node, kinds.Getitem) and isinstance(node.arg, kinds.Const)):
        node = node.node
    return node.name if isinstance(node, kinds.Name) else None
