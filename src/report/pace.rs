//! Limits how much is reported. Otherwise, anybody who can edit a pod could make the agent write log lines and Events
//! without end. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::notice::Notice;
use crate::ground::clock::Moment;
use crate::pods::PodUid;

/// This many at once, and one more after each `refill`.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    refill: Duration,
}

/// For notices that are not about an eviction. A pod has a few of them, each reported once; an edit may cause another.
const OF_A_POD: Rate = Rate { burst: 10, refill: Duration::from_secs(60) };
/// A namespace may add a whole node's pods at once, and some edits after that.
const OF_A_NAMESPACE: Rate = Rate { burst: 300, refill: Duration::from_secs(6) };
/// So may all namespaces together; 250 pods are many for a node.
const OF_ALL: Rate = Rate { burst: 1000, refill: Duration::from_secs(1) };
/// For notices about evictions: far more than restraint and back-off allow.
const EVICTIONS_OF_A_POD: Rate = Rate { burst: 60, refill: Duration::from_secs(10) };
/// See [`EVICTIONS_OF_A_POD`].
const EVICTIONS_OF_ALL: Rate = Rate { burst: 2000, refill: Duration::from_millis(200) };
/// How many pods, and how many namespaces, are remembered: more than a node has.
const REMEMBERED: usize = 1024;

/// When a bucket of tokens will be full again. This one value is enough.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Moment,
}

impl Bucket {
    fn has_one(self, now: Moment, rate: Rate) -> bool {
        self.full_at.max(now) + rate.refill <= now + rate.refill.saturating_mul(rate.burst)
    }

    fn take(&mut self, now: Moment, rate: Rate) {
        self.full_at = self.full_at.max(now) + rate.refill;
    }
}

#[derive(Debug, Default)]
pub struct Pace {
    pods: BTreeMap<(PodUid, bool), Bucket>,
    namespaces: BTreeMap<String, Bucket>,
    others: Bucket,
    evictions: Bucket,
}

impl Pace {
    /// Whether to report this; `false` if there was too much about its pod, about its namespace, or in all.
    pub fn allows(&mut self, now: Moment, notice: &Notice) -> bool {
        let eviction = notice.subject.is_about_an_eviction();
        let (of_a_pod, of_all) = if eviction { (EVICTIONS_OF_A_POD, EVICTIONS_OF_ALL) } else { (OF_A_POD, OF_ALL) };
        let all = if eviction { &mut self.evictions } else { &mut self.others };
        let Some(pod) = bucket(&mut self.pods, (notice.pod.uid.clone(), eviction), now) else { return false };
        let mut allowed = pod.has_one(now, of_a_pod) && all.has_one(now, of_all);
        if !eviction {
            let namespace = bucket(&mut self.namespaces, notice.pod.namespace.clone(), now);
            allowed &= namespace.as_ref().is_some_and(|namespace| namespace.has_one(now, OF_A_NAMESPACE));
            if let Some(namespace) = namespace.filter(|_| allowed) {
                namespace.take(now, OF_A_NAMESPACE);
            }
        }
        if allowed {
            pod.take(now, of_a_pod);
            all.take(now, of_all);
        }
        allowed
    }
}

/// The bucket of a key. Buckets that are full again are forgotten. If too many are not, a new key gets none.
fn bucket<K: Ord>(all: &mut BTreeMap<K, Bucket>, key: K, now: Moment) -> Option<&mut Bucket> {
    if all.len() >= REMEMBERED && !all.contains_key(&key) {
        all.retain(|_, bucket| bucket.full_at > now);
        if all.len() >= REMEMBERED {
            return None;
        }
    }
    Some(all.entry(key).or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::PodRef;
    use crate::report::notice::Subject;

    fn notice(namespace: &str, uid: &str, subject: Subject) -> Notice {
        let pod = PodRef { namespace: namespace.into(), name: "web".into(), uid: PodUid(uid.into()) };
        Notice { pod, owner: None, container: None, by_namespace: false, subject, story: None }
    }

    fn slow() -> Subject {
        Subject::Slow { since: Duration::ZERO, growth: 1 }
    }

    /// How many of these are told, one each `step`.
    fn reported(pace: &mut Pace, from: Moment, step: Duration, notices: impl IntoIterator<Item = Notice>) -> usize {
        (0u32..).zip(notices).filter(|(n, notice)| pace.allows(from + step * *n, notice)).count()
    }

    #[test]
    fn an_annotation_edited_in_a_loop_is_told_a_few_times_and_then_once_a_minute() {
        let mut pace = Pace::default();
        let edits = |count: usize| std::iter::repeat_n(notice("a", "u", Subject::NoLimit), count);
        assert_eq!(reported(&mut pace, Duration::ZERO, Duration::from_millis(10), edits(5000)), 10);
        let hour = Duration::from_secs(3600);
        assert_eq!(reported(&mut pace, hour, Duration::from_millis(100), edits(36_000)), 10 + 59);
        assert!(pace.allows(2 * hour, &notice("a", "other", Subject::NoLimit)), "another pod is told");
    }

    #[test]
    fn a_namespace_that_makes_pods_in_a_loop_does_not_silence_the_others() {
        let mut pace = Pace::default();
        let pods = (0..5000).map(|n| notice("a", &n.to_string(), Subject::NoLimit));
        assert_eq!(reported(&mut pace, Duration::ZERO, Duration::ZERO, pods), 300);
        let pods = (0..500).map(|n| notice("b", &format!("b{n}"), Subject::NoLimit));
        assert!(reported(&mut pace, Duration::from_secs(1), Duration::ZERO, pods) >= 250);
        assert!(pace.pods.len() <= REMEMBERED);
    }

    #[test]
    fn evictions_are_told_whatever_else_was() {
        let mut pace = Pace::default();
        let others = (0..100_000).map(|n| notice(&format!("{}", n / 100), &(n % 900).to_string(), Subject::NoLimit));
        assert_eq!(reported(&mut pace, Duration::ZERO, Duration::ZERO, others), 1000, "of all namespaces");
        let of_a_pod = std::iter::repeat_n(notice("a", "0", slow()), 50);
        assert_eq!(reported(&mut pace, Duration::ZERO, Duration::ZERO, of_a_pod), 50);
        let more = std::iter::repeat_n(notice("a", "0", slow()), 50);
        assert_eq!(reported(&mut pace, Duration::ZERO, Duration::ZERO, more), 10, "they have a bound, too");
    }
}
