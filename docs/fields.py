"""For the API reference: classes whose fields are their arguments get a signature made of them.

griffe does this for dataclasses; here it is done for `equinox.Module` and `typing.NamedTuple`, parents' fields first.
"""

from typing import Any

import griffe

RECORDS = {"equinox.Module", "typing.NamedTuple"}
MADE = "made of the fields"


class Fields(griffe.Extension):
    """Adds `__init__` to records that define none."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called for every class once its package has been read."""
        try:
            family = [*reversed(cls.mro()), cls]
        except ValueError:  # a base outside of what is read has no order
            family = [cls]
        bases = {getattr(base, "canonical_path", str(base)) for member in family for base in member.bases}
        inits = [member.members["__init__"] for member in family if "__init__" in member.members]
        if any(MADE not in init.labels for init in inits) or not bases & RECORDS:
            return
        fields = {name: field for member in family for name, field in member.attributes.items() if is_field(field)}
        parameters = [
            griffe.Parameter(
                name,
                annotation=field.annotation,
                kind=griffe.ParameterKind.positional_or_keyword,
                default=default_of(field),
            )
            for name, field in fields.items()
        ]
        parameters.insert(0, griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword))
        init = griffe.Function("__init__", parameters=griffe.Parameters(*parameters))
        init.labels.add(MADE)
        cls.set_member("__init__", init)


def is_field(attribute: griffe.Attribute) -> bool:
    """An annotated name in the body of the class; neither a property nor a class variable."""
    classwide = "class-attribute" in attribute.labels and "instance-attribute" not in attribute.labels
    return attribute.annotation is not None and "property" not in attribute.labels and not classwide


def default_of(field: griffe.Attribute) -> str | griffe.Expr | None:
    """The default value; of `eqx.field(...)` the `default` in it, if there is one."""
    value = field.value
    if isinstance(value, griffe.ExprCall) and value.canonical_path.endswith(".field"):
        given = {argument.name: argument.value for argument in value.arguments if hasattr(argument, "name")}
        return given.get("default", given.get("default_factory"))
    return value
