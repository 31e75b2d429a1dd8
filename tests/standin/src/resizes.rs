//! What a test says about resizes, and what of them is remembered.

use crate::Standin;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Resizing {
    /// Bytes of memory that a node could give to pods, where it is known.
    pub allocatable: BTreeMap<String, u64>,
}

/// # Resizes
impl Standin {
    /// The memory that a node can give to pods, in bytes: a resize whose *request* is beyond it is 403, cause
    /// NodeCapacity. A node that was never told can give any.
    pub fn set_allocatable(&self, node: &str, bytes: u64) {
        self.inner.update(|state| state.resizing.allocatable.insert(node.to_owned(), bytes));
    }
}
