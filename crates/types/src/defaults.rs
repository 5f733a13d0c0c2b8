//! What is stored without the members that say nothing.

/// Whether a value is its type's default: for `skip_serializing_if` of serde.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
