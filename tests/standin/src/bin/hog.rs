//! A pod that takes memory by a plan, for `tests/cluster`. The steps are done one after the other:
//!
//! - `40Mi`: hold so much, as fast as it can be had; `200Mi@4Mi`: grow to it by so much a second
//! - `45s`: wait
//!
//! Then it waits to be ended. On SIGTERM it exits with 143, as a shell says it of a program without a handler: the
//! first process of a container needs one, for there the signal's default is to do nothing.

use std::process::exit;
use std::thread::{sleep, spawn};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use standin::hog::grow;

#[derive(Clone, Copy)]
enum Step {
    Grow { to: u64, rate: u64 },
    Wait(Duration),
}

fn main() {
    let plan: Option<Vec<Step>> = std::env::args().skip(1).map(|word| step(&word)).collect();
    let Some(plan) = plan.filter(|p| !p.is_empty()) else {
        eprintln!("usage: hog STEP...   each 40Mi, 200Mi@4Mi (growing by 4Mi a second) or 45s (waiting)");
        exit(64);
    };
    let mut end = SigSet::empty();
    end.add(Signal::SIGTERM);
    end.add(Signal::SIGINT);
    end.thread_block().expect("blocking signals"); // The thread below has it from this one.
    spawn(move || follow(&plan));
    let signal = end.wait().expect("waiting for a signal");
    println!("ended by {signal}");
    exit(128 + signal as i32);
}

fn follow(plan: &[Step]) {
    let mut memory = Vec::new();
    for step in plan {
        match *step {
            Step::Grow { to, rate } => grow(&mut memory, to, rate),
            Step::Wait(time) => sleep(time),
        }
        println!("holds {} MiB", memory.iter().map(Vec::len).sum::<usize>() >> 20);
    }
    loop {
        sleep(Duration::MAX); // The memory is to be kept.
    }
}

fn step(word: &str) -> Option<Step> {
    if let Some(seconds) = word.strip_suffix('s') {
        return seconds.parse().ok().map(|s| Step::Wait(Duration::from_secs(s)));
    }
    let (to, rate) = word.split_once('@').map_or((word, None), |(to, rate)| (to, Some(rate)));
    Some(Step::Grow { to: mebibytes(to)?, rate: rate.map_or(Some(0), mebibytes)? })
}

fn mebibytes(word: &str) -> Option<u64> {
    word.strip_suffix("Mi")?.parse::<u64>().ok()?.checked_mul(1 << 20)
}
