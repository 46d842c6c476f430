"""What a recipe can name: ours by short names, code of others as 'module:Name', with errors that name the way out."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, Callable, Dict, List, Mapping, Optional, TypeVar

from .._foreign import is_foreign, load_foreign
from ..files.text import shortened, shown

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Dict[str, Callable[..., T]]):
    """Makers of one kind of object by name: hooks, tasks, optimizers, schedules.

    Args:
        what: What they make, for the error texts: "hook".
        known: Ours by name. A new one is an entry here, or needs none: 'module:Name' is looked for in that module.
        kind: The class that all of them are subclasses of; None: they are functions.
    """

    def __init__(self, what: str, known: Mapping[str, Callable[..., T]], kind: Optional[type] = None):
        super().__init__(known)
        self.what, self._kind = what, kind

    def find(self, name: str) -> Callable[..., T]:
        """Return what a recipe names, after the import of its module if the name is of the form 'module:Name'.

        Raises:
            ValueError: There is no such name, or it stands for something else.
        """
        if not is_foreign(name):
            if name in self:
                return self[name]
            raise ValueError(f"unknown {self.what} {shortened(name)}; did you mean {_nearest(name, self)}?")
        found = load_foreign(name, self.what)
        if self._kind is None:
            if not callable(found):
                raise ValueError(f"{self.what} {name!r} is of type {type(found).__name__}, not a function")
        elif not (isinstance(found, type) and issubclass(found, self._kind)):
            kind = f"{self._kind.__module__}.{self._kind.__name__}"
            raise ValueError(f"{self.what} {name!r} is not a class derived from {kind}")
        return found

    def make(self, name: str, options: Dict[str, Any], where: str, **given: Any) -> T:
        """Return what a name makes of its options.

        Args:
            name: Of ours, or 'module:Name'.
            options: As they stand in the recipe; texts such as 1e-3 become numbers.
            where: Their place in the recipe, for error texts: "hooks.ema".
            given: Further arguments that the options cannot change.

        Raises:
            ValueError: No such name or option, or an option that the maker refuses.
        """
        maker = self.find(name)
        if not isinstance(options, dict):
            raise ValueError(f"{where} must be a section with options, not {shortened(options)}")
        parameters = inspect.signature(maker).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        accepted = [key for key, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
        for option in options:
            if option in given:
                raise ValueError(f"{where}: {shortened(option)} is no option; another key of the recipe decides it")
            if option not in accepted and not takes_any:
                others = ", ".join(key for key in accepted if key not in given)
                raise ValueError(f"{where}: no option {shortened(option)}; it takes {others or 'none'}")
        numbers = {key: _number(value, parameters.get(key)) for key, value in options.items()}
        for key, value in numbers.items():
            _require_number(value, parameters.get(key), f"{where}: {key}")
        try:
            return maker(**given, **numbers)
        except TypeError as error:
            raise ValueError(f"{where}: {shown(str(error).split(') ')[-1])}") from error


def _number(value: Any, parameter: Optional[inspect.Parameter]) -> Any:
    """YAML 1.1 reads 1e-3 as a text: a text that is a number becomes one, where the maker does not ask for texts."""
    texts = parameter is not None and "str" in str(parameter.annotation)
    try:
        return float(value) if isinstance(value, str) and not texts else value
    except ValueError:
        return value


def _require_number(value: Any, parameter: Optional[inspect.Parameter], where: str) -> None:
    """Raise ValueError for what is no number where the maker's default is one: MXNet asks in the first update."""
    wants = parameter is not None and type(parameter.default) is float and parameter.annotation in _NUMBERS
    if wants and (isinstance(value, bool) or not isinstance(value, (int, float, type(None)))):
        raise ValueError(f"{where} is {shortened(value)}; it must be a number")


# Of the makers' own annotations, and of MXNet's, which have none.
_NUMBERS = (float, "float", inspect.Parameter.empty)


def _nearest(word: str, words: Mapping[str, Any]) -> str:
    """Up to three words, as they stand in an error text: 'nag', 'adam' or 'sgd'."""
    word = word[:100]
    near: List[str] = difflib.get_close_matches(word, words, 3, 0.6) or difflib.get_close_matches(word, words, 1, 0)
    quoted = [repr(each) for each in near]
    return " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))
