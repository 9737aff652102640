//! How the yardstick takes its times.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::bare::End;
use crate::bench::latency_histogram::Latencies;
use crate::bench::machine::pin;
use crate::failure::{Result, failed};

/// Calls between two clock reads when something short is timed.
const CALLS: u32 = 10_000;

/// Half of each round trip between two threads, after a tenth of the time as warm-up.
pub(super) fn take_turns<E: End>(
    ends: [E; 2],
    cpus: [usize; 2],
    time: Duration,
) -> std::result::Result<Latencies, String> {
    let [mut first, mut second] = ends;
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let echo = thread::spawn(move || -> std::result::Result<(), String> {
        pin(cpus[1]).map_err(|_| format!("cannot pin to CPU {}", cpus[1]))?;
        // Relaxed: the send that follows in the other thread orders it, and a late sight of it
        // costs one more turn.
        while !stopping.load(Ordering::Relaxed) {
            second.receive().and_then(|()| second.send()).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    let ping = thread::spawn(move || -> std::result::Result<(Latencies, E), String> {
        pin(cpus[0]).map_err(|_| format!("cannot pin to CPU {}", cpus[0]))?;
        let latencies = half_round_trips(&mut first, time).map_err(|error| error.to_string())?;
        stop.store(true, Ordering::Relaxed);
        // The echo may be waiting for a turn, or have seen the flag and gone: both are fine.
        let _ = first.send();
        Ok((latencies, first))
    });
    let ping = ping.join().map_err(|_| "the timing thread panicked".to_owned())?;
    // The end is kept open until the echo is over: its last answer needs somewhere to go.
    let (latencies, _end) = ping?;
    echo.join().map_err(|_| "the echoing thread panicked".to_owned())??;
    Ok(latencies)
}

fn half_round_trips(end: &mut impl End, time: Duration) -> std::io::Result<Latencies> {
    let mut latencies = Latencies::new();
    let start = Instant::now();
    let (measure_from, measure_to) = (start + time / 10, start + time);
    let mut sent = start;
    // At least one is measured, however little time there is.
    while sent < measure_to || latencies.is_empty() {
        end.send()?;
        end.receive()?;
        let now = Instant::now();
        if now >= measure_from {
            latencies.record((now - sent) / 2);
        }
        sent = now;
    }
    Ok(latencies)
}

/// Messages that a Unix stream socket carries in a second, `batch` of them in each write.
pub(super) fn stream_rate(
    size: usize,
    batch: usize,
    cpus: [usize; 2],
    time: Duration,
) -> std::result::Result<f64, String> {
    let (mut writer, mut reader) = UnixStream::pair().map_err(|error| error.to_string())?;
    let send = thread::spawn(move || -> std::result::Result<(), String> {
        pin(cpus[0]).map_err(|_| format!("cannot pin to CPU {}", cpus[0]))?;
        let messages = vec![0; size * batch];
        let end = Instant::now() + time;
        while Instant::now() < end {
            writer.write_all(&messages).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    let receive = thread::spawn(move || -> std::result::Result<f64, String> {
        pin(cpus[1]).map_err(|_| format!("cannot pin to CPU {}", cpus[1]))?;
        let mut buffer = vec![0; 256 * 1024];
        let (start, mut bytes) = (Instant::now(), 0u64);
        loop {
            match reader.read(&mut buffer).map_err(|error| error.to_string())? {
                0 => break,
                count => bytes += count as u64,
            }
        }
        Ok(bytes as f64 / size as f64 / start.elapsed().as_secs_f64())
    });
    let rate = receive.join().map_err(|_| "the reading thread panicked".to_owned())??;
    send.join().map_err(|_| "the writing thread panicked".to_owned())??;
    Ok(rate)
}

/// Nanoseconds of one call: the best of many runs, since whatever disturbs only adds.
pub(super) fn time_call(time: Duration, mut call: impl FnMut()) -> f64 {
    let end = Instant::now() + time;
    let mut best = f64::INFINITY;
    loop {
        let start = Instant::now();
        for _ in 0..CALLS {
            call();
        }
        let now = Instant::now();
        best = best.min((now - start).as_nanos() as f64 / f64::from(CALLS));
        if now >= end {
            return best;
        }
    }
}

pub(super) fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    // So that pinning ends with the thread.
    thread::spawn(work).join().unwrap_or_else(|_| Err(failed("a measuring thread panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::allowed_cpus;

    #[test]
    fn an_end_that_breaks_is_an_error_not_a_hang() {
        struct Broken;
        impl End for Broken {
            fn send(&mut self) -> std::io::Result<()> {
                Ok(())
            }
            fn receive(&mut self) -> std::io::Result<()> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        }
        let cpu = allowed_cpus().unwrap()[0];
        let result = take_turns([Broken, Broken], [cpu, cpu], Duration::from_millis(5));
        assert!(result.is_err());
    }
}
