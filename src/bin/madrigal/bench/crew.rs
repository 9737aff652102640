//! The threads of a bench: hired, pinned, watched, and their results collected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::machine::Pinning;
use crate::failure::{Result, failed};

/// How long nothing may arrive before a run is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often it is looked whether anything arrived.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A number that grows while all is well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Says how far it has come.
    pub(crate) fn set(&self, value: u64) {
        // Relaxed: only compared with earlier values of itself.
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Threads that each yield a `T` or a failure.
///
/// A failure ends the run at once; the other threads end with the process, since they may be
/// waiting for something that never comes.
pub(crate) struct Crew<T> {
    pinning: Pinning,
    sender: Sender<Result<T>>,
    receiver: Receiver<Result<T>>,
    hired: usize,
    done: Vec<T>,
}

impl<T: Send + 'static> Crew<T> {
    /// Nobody yet.
    pub(crate) fn new(pinning: Pinning) -> Self {
        let (sender, receiver) = channel();
        Self { pinning, sender, receiver, hired: 0, done: Vec::new() }
    }

    /// Starts a thread that does `work`.
    pub(crate) fn hire(&mut self, work: impl FnOnce() -> Result<T> + Send + 'static) {
        let (pinning, sender, index) = (self.pinning.clone(), self.sender.clone(), self.hired);
        self.hired += 1;
        thread::spawn(move || {
            let result = pinning.apply(index).and_then(|()| work());
            // Nobody listens any more when another thread has failed.
            let _ = sender.send(result);
        });
    }

    /// Waits for `time`, or less where a thread ends.
    pub(crate) fn watch_for(&mut self, time: Duration) -> Result {
        match self.receiver.recv_timeout(time) {
            Ok(result) => {
                self.done.push(result?);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    /// Waits until `moment`; a thread that fails before ends it.
    pub(crate) fn watch_until(&mut self, moment: Instant) -> Result {
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.watch_for(left)?;
        }
    }

    /// Waits for all threads, in whatever order they end, as long as there is progress.
    pub(crate) fn finish(mut self, progress: &Progress) -> Result<Vec<T>> {
        self.watch_while(progress, LOOK_EVERY, |crew| crew.done.len() < crew.hired)?;
        Ok(self.done)
    }

    /// Waits as long as `go_on` says so, asking it each `step`, and there is progress.
    pub(crate) fn watch_while(
        &mut self,
        progress: &Progress,
        step: Duration,
        mut go_on: impl FnMut(&Self) -> bool,
    ) -> Result {
        let (mut seen, mut since) = (progress.get(), Instant::now());
        while go_on(self) {
            self.watch_for(step)?;
            let now = progress.get();
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > PATIENCE {
                return Err(failed(format!(
                    "nothing has arrived for {} s: was a message lost, or the daemon stopped?",
                    PATIENCE.as_secs()
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_threads_come_back() {
        let mut crew = Crew::new(Pinning::default());
        for number in 0..5 {
            crew.hire(move || Ok(number));
        }
        crew.watch_until(Instant::now() + Duration::from_millis(5)).unwrap();
        let mut results = crew.finish(&Progress::default()).unwrap();
        results.sort_unstable();
        assert_eq!(results, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_failure_ends_the_run_although_others_go_on() {
        let mut crew = Crew::new(Pinning::default());
        let (release, wait) = channel::<()>();
        crew.hire(move || {
            let _ = wait.recv();
            Ok(())
        });
        crew.hire(|| Err(failed("broken")));
        assert!(crew.finish(&Progress::default()).is_err());
        drop(release);
    }
}
