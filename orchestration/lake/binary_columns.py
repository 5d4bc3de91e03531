"""Text that a Parquet file keeps in columns without a text type, as Spark's and Hadoop's older writers do."""

import pyarrow as pa


def as_text(column: pa.Array) -> pa.Array:
    """The column with text in place of bytes that are UTF-8; other bytes stay, as DuckDB writes them: `\\xFF`."""
    wanted = _text_type(column.type)
    if wanted == column.type:
        return column
    try:
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if not (pa.types.is_binary(column.type) or _is_other_binary(column.type)):
            return column
        return pa.array([None if value is None else _text(value) for value in column.to_pylist()], pa.string())


def _text_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.large_string()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_text_type(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_text_type(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(_text_type(kind.key_type), _text_type(kind.item_type))
    return kind


def _is_other_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if 32 <= byte < 127 and byte not in b"\\'\"" else f"\\x{byte:02X}" for byte in value)
