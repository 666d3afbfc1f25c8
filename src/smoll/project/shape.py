"""What the models of the project file say about themselves."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Model = type[BaseModel]


def fields_of(model: Model) -> dict[str, FieldInfo]:
    """Return the fields of `model` by the key that is written in the file."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def models_in(annotation: Any) -> list[Model]:
    """Return the models that `annotation` is made of: of ``Mapping[str, A | B] | None``, A and B."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def kind_of(model: Model) -> str | None:
    """Return the value of ``kind`` by which the file chooses `model`, if it does."""
    field = model.model_fields.get("kind")
    return str(get_args(field.annotation)[0]) if field else None


def section_at(root: Model, loc: tuple[str | int, ...]) -> Model | None:
    """Return the model whose key the last part of `loc` is, a pydantic location that begins at `root`."""
    models = [root]
    for part in loc[:-1]:
        tagged = [model for model in models if kind_of(model) == part]
        fields = fields_of(models[0]) if models else {}
        if tagged:
            models = tagged
        elif part in fields:
            models = models_in(fields[str(part)].annotation)
        # Else it is a name that the user chose: the models are still those of the mapping.
    return models[0] if len(models) == 1 else None
