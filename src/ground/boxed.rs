//! Values that few keep, and that are replaced often: in boxes, so that the others need no room for them.

/// Replaces what is kept. Allocates only where nothing was.
pub fn put<T>(kept: &mut Option<Box<T>>, value: Option<T>) {
    match (value, kept) {
        (Some(value), Some(kept)) => **kept = value,
        (value, kept) => *kept = value.map(Box::new),
    }
}
