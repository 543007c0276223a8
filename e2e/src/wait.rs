//! Waits for a state and reports the last one seen if it does not occur.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The state seen instead of the expected one.
#[derive(Clone, Debug)]
pub struct Pending(pub String);

impl From<Error> for Pending {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl From<String> for Pending {
    fn from(seen: String) -> Self {
        Self(seen)
    }
}

impl From<&str> for Pending {
    fn from(seen: &str) -> Self {
        Self(seen.to_owned())
    }
}

/// The longest time between two probes of [`until`].
const SELDOM: Duration = Duration::from_secs(1);

/// Probes every `interval` until the probe returns a value.
///
/// # Errors
/// [`Error::Timeout`] with the last state seen, after `timeout`.
pub fn every<T>(
    interval: Duration,
    timeout: Duration,
    what: &str,
    probe: impl FnMut() -> Result<T, Pending>,
) -> Result<T> {
    probing(std::iter::repeat(interval), timeout, what, probe)
}

fn probing<T>(
    mut intervals: impl Iterator<Item = Duration>,
    timeout: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, Pending>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(Pending(last)) if Instant::now() >= deadline => {
                return Err(Error::Timeout { what: what.to_owned(), after: timeout, last });
            }
            Err(_) => thread::sleep(intervals.next().unwrap_or(SELDOM)),
        }
    }
}

/// Probes after 300 ms, then at growing intervals up to one second: most probes run kubectl, which took a third of
/// the CPU of all scenarios.
///
/// # Errors
/// [`Error::Timeout`] with the last state seen, after `timeout`.
pub fn until<T>(timeout: Duration, what: &str, probe: impl FnMut() -> Result<T, Pending>) -> Result<T> {
    probing((3..10).map(|tenths| Duration::from_millis(100 * tenths)), timeout, what, probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_the_last_state_on_timeout() {
        let mut round = 0;
        let error = every(Duration::ZERO, Duration::from_millis(5), "a thing", || {
            round += 1;
            Err::<(), _>(Pending(format!("round {round}")))
        })
        .unwrap_err();
        assert!(error.to_string().starts_with("a thing: not within 0 s; last seen: round "), "{error}");
    }
}
