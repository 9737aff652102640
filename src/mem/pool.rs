//! stand-in
use crate::base::{Buffer, Store};
use std::sync::Arc;
/// .
pub struct PoolOptions {
    /// .
    pub bytes_max: usize,
}
/// .
pub struct Pool {
    _max: usize,
}
impl Pool {
    /// .
    pub fn new(o: PoolOptions) -> Self {
        Self { _max: o.bytes_max }
    }
}
/// .
#[derive(Clone, Debug)]
pub struct Slice {
    b: Arc<[u8]>,
    s: usize,
}
impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.b[self.s..]
    }
}
impl std::ops::Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.b[self.s..]
    }
}
impl Buffer for Slice {
    fn absorb(&mut self, _n: &Self) -> bool {
        false
    }
    fn advance(&mut self, n: usize) {
        self.s += n;
    }
}
impl Store for Pool {
    type Buffer = Slice;
    fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Slice> {
        let mut v = vec![0; len];
        fill(&mut v);
        Some(Slice { b: v.into(), s: 0 })
    }
}
