"""Arrow columns as other libraries write them, in the few types that are read here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

# What a passage, a dict with a text (Tevatron, BEIR), may say beside its text.
BESIDE_A_TEXT = {
    *("title", "docid", "doc_id", "document_id", "_id", "id", "pid", "score", "rank", "url"),
}


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type in which a column of this type is read.

    Views, dictionaries and lists of a fixed size become plain texts, numbers and lists; decimals
    become floats; a dict of a text and its title becomes one text.

    >>> import pyarrow as pa
    >>> plain_type(pa.large_list(pa.string_view())), plain_type(pa.dictionary(pa.int8(), pa.utf8()))
    (ListType(list<item: string>), DataType(string))
    """
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_string_view(kind) or _is_passage(kind):
        return pa.string()
    if pa.types.is_float16(kind):
        return pa.float32()
    return pa.float64() if pa.types.is_decimal(kind) else kind


def plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns values in their `plain_type`; a passage reads "title text", as in BEIR.

    >>> import pyarrow as pa
    >>> passages = [{"title": "Cat", "text": "an animal"}, {"title": "", "text": "a ship"}]
    >>> plain(pa.chunked_array([[passages]])).to_pylist()
    [['Cat an animal', 'a ship']]
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = plain_type(values.type)
    if kind == values.type:
        return values
    if _is_passage(values.type):
        return _titled(values)
    if not is_list(values.type):
        return values.cast(kind)
    # Not by a cast: that of Arrow 26 loses values of list views and of sliced lists
    flat = plain(pc.call_function("list_flatten", [values]))
    lengths = pc.call_function("list_value_length", [values]).fill_null(0).to_numpy()
    starts = pa.array(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        mask=np.append(values.is_null().to_numpy(), False),
    )
    return pa.chunked_array([pa.ListArray.from_arrays(starts, flat.combine_chunks())], kind)


def plain_table(table: pa.Table) -> pa.Table:
    """Returns a table with all its columns in their plain types."""
    import pyarrow as pa

    return pa.table({name: plain(table[name]) for name in table.column_names})


def is_list(kind: pa.DataType) -> bool:
    """Returns True if values of this type are lists, however they are stored."""
    import pyarrow.types as kinds

    return any(
        matches(kind)
        for matches in (
            kinds.is_list,
            kinds.is_large_list,
            kinds.is_fixed_size_list,
            kinds.is_list_view,
            kinds.is_large_list_view,
        )
    )


def is_text(kind: pa.DataType) -> bool:
    """Returns True if values of this type are texts."""
    import pyarrow.types as kinds

    return kinds.is_string(kind) or kinds.is_large_string(kind)


def has_views(kind: pa.DataType) -> bool:
    """Returns True if a type has list views in it, which `datasets` does not open."""
    import pyarrow.types as kinds

    if kinds.is_list_view(kind) or kinds.is_large_list_view(kind):
        return True
    return any(has_views(kind.field(place).type) for place in range(kind.num_fields))


def _is_passage(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if not pa.types.is_struct(kind) or kind.get_field_index("text") < 0:
        return False
    beside = {field.name for field in kind} - {"text"}
    texts = [name for name in ("text", "title") if name == "text" or name in beside]
    return beside <= BESIDE_A_TEXT and all(
        is_text(plain_type(kind.field(name).type)) or pa.types.is_null(kind.field(name).type)
        for name in texts
    )


def _titled(passages: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    def field(name: str) -> pa.ChunkedArray:
        options = pc.StructFieldOptions([name])
        return pc.call_function("struct_field", [passages], options).cast(pa.string())

    text = field("text")
    if passages.type.get_field_index("title") < 0:
        return text
    title = field("title").fill_null("")
    joined = pc.call_function("binary_join_element_wise", [title, text, pa.scalar(" ")])
    trimmed = pc.call_function("utf8_trim_whitespace", [joined])
    untitled = pc.call_function("equal", [title, ""])
    return pc.call_function("if_else", [untitled, text, trimmed])
