//! Takes the place of `mem::pool::Slice` until that is merged.

use std::sync::Arc;

/// Shared bytes at a fixed address.
#[derive(Clone, Debug)]
pub struct Slice(pub Arc<[u8]>);

impl std::ops::Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
