//! What is known of a container's past, for `/api/guards`. Worked out on the thread of the pages, and only for who asks.

use std::time::Duration;

use super::wire::{HistoryView, MemoryView};
use crate::decide::past::SlowGrowth;
use crate::ground::units::Bytes;
use crate::sampler::Known;

/// The parts of the history: seconds of the last minutes, and blocks of five minutes of the day.
const SECONDS: usize = 5;
const BLOCKS: usize = 3;

/// Adds what is known of the past; with `history`, the curves as well.
pub fn add(view: &mut MemoryView, known: &Known, growth: Option<SlowGrowth>, history: bool) {
    let (usage_peak, peak) = known.past.peak();
    view.known_seconds = known.past.age(known.last.sample.at).as_secs();
    view.growth_per_minute = growth.map(|growth| growth.a_minute);
    view.growing_seconds = growth.map(|growth| growth.lasted.as_secs());
    view.above_in_seconds = above_in(view).map(|left| left.as_secs());
    view.peak = peak.map(|peak| peak.0);
    view.usage_peak = usage_peak.map(|peak| peak.0);
    view.fastest_second = Some(known.past.fastest());
    view.history = history.then(|| HistoryView {
        minutes: kib(known.past.minutes(SECONDS).value),
        day: kib(known.past.day(BLOCKS).value),
    });
}

/// The points of a curve as the pages have them.
pub fn kib(points: Vec<Option<Bytes>>) -> Vec<Option<u64>> {
    points.into_iter().map(|point| point.map(|bytes| bytes.0 >> 10)).collect()
}

/// When the signal is above its threshold if it keeps growing: by the growth over minutes or over the last minute, whichever
/// is faster; only without these by that of the last moments, which a single step makes.
fn above_in(view: &MemoryView) -> Option<Duration> {
    let missing = Bytes(view.threshold?).less(Bytes(view.value?));
    let slow = [view.growth_per_minute.map(|growth| growth / 60), view.slow_growth];
    let slow = slow.into_iter().flatten().max().filter(|growth| *growth > 0);
    let growth = slow.or(view.growth).and_then(|growth| u64::try_from(growth).ok()).filter(|growth| *growth > 0)?;
    Some(missing.lasts_at(growth))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forecast_goes_by_the_faster_of_the_slow_growths() {
        const MIB: i64 = 1 << 20;
        let view = MemoryView { value: Some(100 << 20), threshold: Some(160 << 20), ..MemoryView::default() };
        let of = |minute: Option<i64>, last: Option<i64>, now: Option<i64>| {
            let growth_per_minute = minute.map(|n| n * MIB);
            let view = MemoryView { growth_per_minute, slow_growth: last, growth: now, ..view.clone() };
            above_in(&view).map(|left| left.as_secs_f64().round() as u64)
        };
        assert_eq!(of(Some(6), Some(0), Some(50 * MIB)), Some(600));
        assert_eq!(of(Some(6), Some(MIB), None), Some(60));
        assert_eq!((of(None, None, Some(MIB)), of(Some(0), Some(0), Some(MIB))), (Some(60), Some(60)));
        assert_eq!((of(None, None, None), of(Some(-6), Some(0), Some(0))), (None, None));
        assert_eq!(above_in(&MemoryView { threshold: None, growth: Some(1), ..view }), None);
    }
}
