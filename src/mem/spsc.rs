//! stand-in
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
/// .
pub struct Producer<T>(Arc<Mutex<VecDeque<T>>>, usize);
/// .
pub struct Consumer<T>(Arc<Mutex<VecDeque<T>>>);
/// .
pub fn queue<T>(n: usize) -> (Producer<T>, Consumer<T>) {
    let a = Arc::new(Mutex::new(VecDeque::new()));
    (Producer(a.clone(), n), Consumer(a))
}
impl<T> Producer<T> {
    /// .
    pub fn push(&mut self, t: T) -> Result<(), T> {
        let mut q = self.0.lock().unwrap();
        if q.len() >= self.1 {
            Err(t)
        } else {
            q.push_back(t);
            Ok(())
        }
    }
    /// .
    pub fn publish(&mut self) {}
}
impl<T> Consumer<T> {
    /// .
    pub fn pop(&mut self) -> Option<T> {
        self.0.lock().unwrap().pop_front()
    }
    /// .
    pub fn release(&mut self) {}
    /// .
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}
