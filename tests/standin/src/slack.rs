//! More time for a machine that is busy.

use std::sync::LazyLock;
use std::time::Duration;

const VARIABLE: &str = "E2E_SLACK";

static FACTOR: LazyLock<u32> = LazyLock::new(|| {
    let factor = std::env::var(VARIABLE).map_or(Some(1), |text| text.parse().ok());
    factor
        .filter(|f| (1..100).contains(f))
        .unwrap_or_else(|| panic!("{VARIABLE} has to be a whole number from 1 to 99"))
});

/// `time`, multiplied by the factor in the environment variable `E2E_SLACK` (1 where that is not set).
///
/// It is only for the longest wait for something that has to happen. Such a wait ends when the thing happens, so the factor
/// only postpones a failure. Neither a time in which something must not happen nor a time that a test asserts goes
/// through here. Above 3, waits of 60 s outlast the 195 s after which the agent renews a silent watch.
///
/// # Panics
/// The variable has no whole number from 1 to 99: a wait never becomes shorter.
pub fn slack(time: Duration) -> Duration {
    time * *FACTOR
}
